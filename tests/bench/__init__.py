"""Measurements: figures to print, never assertions. ``./run bench``."""
