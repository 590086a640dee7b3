"""Measures what a backend does: task quality, latency and memory, and judges reports by gates."""

__all__: list[str] = []
