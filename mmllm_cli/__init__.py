"""The mmllm command line: one file per command reads options, calls one function and prints."""

__all__: list[str] = []
