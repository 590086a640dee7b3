"""One file per command; each imports what it needs inside its function, so that --help stays quick."""

__all__: list[str] = []
