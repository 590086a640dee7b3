"""Other models and programs, timed in turns with ours on the same picture."""

__all__: list[str] = []
