"""Bundle → artifact for a runtime."""

__all__: list[str] = []
