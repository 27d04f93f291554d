"""What the mesh does on this machine: real processes, a store on disk, figures with the cost of one fsync beside them.

Called by ``agentcom bench`` (``agentcom/cli/bench.py``); ``./run bench`` runs it beside other queues.
"""
