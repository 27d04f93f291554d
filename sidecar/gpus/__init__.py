"""The GPUs of this machine, one module a vendor; what they have in common is ``base.py``."""
