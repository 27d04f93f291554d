"""Sidecars come in here: one WebSocket each, many messages a frame."""
