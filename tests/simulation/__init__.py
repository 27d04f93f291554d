"""Hub and sidecars as they are, in one seeded world where time, network, disks and clocks are ours.

``python -m tests.simulation --seeds 0:1000`` runs it; ``docs/how-to/simulate-faults.md`` tells how to replay a seed.
"""
