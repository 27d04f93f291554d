"""The HTTP side of the hub: translates requests to services and back, decides nothing."""
