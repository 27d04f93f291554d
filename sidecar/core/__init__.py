"""Rules of the sidecar: the states of an attempt, its lease, and the verdict over its checks. Pure."""
