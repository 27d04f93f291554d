"""The sidecar: one daemon a machine; reports what the machine has, runs attempts, checks the work and reports back.

``core`` holds the rules of an attempt, ``runner`` carries one out, ``journal`` remembers it through a crash, ``link``
talks to the hub, and ``app`` puts them together. Knows the contract in ``protocol``, never the hub.
"""
