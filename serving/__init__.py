"""The HTTP service around a model."""

__all__: list[str] = []
