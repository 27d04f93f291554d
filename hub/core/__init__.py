"""Rules of the hub: no await, no clock, no random source, no I/O, no logging."""
