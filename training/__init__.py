"""The recipe that makes the default model from data, end to end."""

__all__: list[str] = []
