"""Writes ``ops/prometheus``, ``ops/alertmanager`` and ``ops/grafana``, and tries them."""
