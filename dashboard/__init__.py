"""The live page of a hub."""
