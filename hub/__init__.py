"""The hub: takes tasks in, remembers them, decides who works on what, accepts results that passed their checks.

Edges (``web``, ``gateway``) translate, ``services`` do one use case each, ``core`` holds the rules, ``store``
remembers, and ``app`` is the one place that puts them together. Knows the contract in ``protocol``, never the sidecar.
"""
