"""Bundle → smaller bundle, and a report of what that cost."""

__all__: list[str] = []
