"""The main job on real input: ``python -m agentcom.demo`` (or ``./run demo``).

A hub and two sidecars as real processes, real git repositories, a real model; three or four tasks from submission to
proven result, and for each what happened when, why it went where it went, what the checks found and what it cost.
"""
