"""Use cases of the hub, one a module; none imports another."""
