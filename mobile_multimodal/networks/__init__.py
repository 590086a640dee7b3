"""The torch networks of the model, one file each; imported only where torch is needed."""

__all__: list[str] = []
