"""The rules by which ``training.questions`` reads captions and asks about them."""

__all__: list[str] = []
