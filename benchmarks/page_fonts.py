"""The fonts of rendered pages: from pinned packages alone, so that every machine draws the same pages."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from importlib.util import find_spec

from PIL import ImageFont

from mobile_multimodal.errors import MissingExtraError

__all__ = ["MONO", "SANS", "SERIF", "load_font"]

# family → (package, file, whether its weight is an axis of one file); all under the SIL Open Font License
_FILES: dict[str, tuple[str, str, bool]] = {
    "arimo": ("fontpkg_arimo", "Arimo[wght].ttf", True),
    "roboto": ("fontpkg_roboto", "Roboto[wdth,wght].ttf", True),
    "lora": ("fontpkg_lora", "Lora[wght].ttf", True),
    "pt-serif": ("fontpkg_pt_serif", "PT_Serif-Web-Regular.ttf", False),
    "pt-serif-bold": ("fontpkg_pt_serif", "PT_Serif-Web-Bold.ttf", False),
    "jetbrains-mono": ("fontpkg_jetbrains_mono", "JetBrainsMono[wght].ttf", True),
    "plex-mono": ("fontpkg_ibm_plex_mono", "IBMPlexMono-Regular.ttf", False),
    "plex-mono-bold": ("fontpkg_ibm_plex_mono", "IBMPlexMono-Bold.ttf", False),
}
SANS = ("arimo", "roboto")
SERIF = ("lora", "pt-serif")
MONO = ("jetbrains-mono", "plex-mono")


@lru_cache(maxsize=256)
def load_font(family: str, size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """A font of ``size`` pixels per em, regular or bold, laid out without ligatures.

    Raises:
        MissingExtraError: the font's package is not installed.
    """
    key = f"{family}-bold" if bold and f"{family}-bold" in _FILES else family
    package, file, variable = _FILES[key]
    if find_spec(package) is None:
        raise MissingExtraError(package, "bench")
    with resources.as_file(resources.files(package) / "files" / file) as path:
        # Basic layout: Raqm is not part of every Pillow, and would join "->" into an arrow.
        font = ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)
    if variable:
        font.set_variation_by_name("Bold" if bold else "Regular")
    return font
