"""Train on pictures of your own: draws 20 pictures of five products, learns from 16, captions the other 4.

Needs the train extra and about a minute: python examples/train_on_own_pictures.py
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw

from mobile_multimodal import MobileMultiModalLLM

PRODUCTS = {"mug": "red", "bottle": "green", "box": "blue", "ring": "yellow", "lamp": "black"}
INKS = {"red": "#c8202c", "green": "#1f8a3c", "blue": "#2050c0", "yellow": "#e8c020", "black": "#202020"}
GROUNDS = ("#ece6da", "#d8dee4", "#f4f4f2", "#c9b79c")


def draw(product: str, view: int) -> Image.Image:
    """The product on one of four grounds, each at another place."""
    ground, ink = GROUNDS[view], INKS[PRODUCTS[product]]
    image = Image.new("RGB", (320, 320), ground)
    pen = ImageDraw.Draw(image)
    x, y = 90 + 30 * view, 40 + 12 * (view % 3)
    if product == "mug":
        pen.ellipse((x + 70, y + 80, x + 130, y + 160), outline=ink, width=14)
        pen.rounded_rectangle((x - 20, y + 50, x + 90, y + 190), 16, fill=ink)
    elif product == "bottle":
        pen.rectangle((x + 18, y, x + 52, y + 80), fill=ink)
        pen.rounded_rectangle((x - 10, y + 70, x + 80, y + 230), 24, fill=ink)
        pen.rectangle((x - 10, y + 120, x + 80, y + 180), fill="white")
    elif product == "box":
        pen.rectangle((x - 50, y + 90, x + 90, y + 210), fill=ink)
        pen.polygon(((x - 50, y + 90), (x - 10, y + 50), (x + 130, y + 50), (x + 90, y + 90)), fill="#999999")
    elif product == "ring":
        pen.ellipse((x - 40, y + 50, x + 120, y + 210), fill=ink)
        pen.ellipse((x + 5, y + 95, x + 75, y + 165), fill=ground)
    else:
        pen.polygon(((x, y), (x + 80, y), (x + 120, y + 90), (x - 40, y + 90)), fill=ink)
        pen.rectangle((x + 34, y + 90, x + 46, y + 210), fill=ink)
        pen.ellipse((x - 10, y + 200, x + 90, y + 230), fill=ink)
    return image


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp(prefix="own-pictures-"))
    folder.mkdir(parents=True, exist_ok=True)
    rows, names = [], []
    for product, color in PRODUCTS.items():
        for view in range(len(GROUNDS)):
            name = f"{product}-{view}.png"
            draw(product, view).save(folder / name)
            captions = [f"A product photo of a {color} {product}.", f"A {color} {product} on a plain ground."]
            rows.append({"image": name, "captions": captions})
            names.append(name)
    data, output = folder / "my.jsonl", folder / "model"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    command = [sys.executable, "-m", "training", "adapt", "--data", str(data), "--output", str(output)]
    subprocess.run([*command, "--force"], check=True)
    models = {"before": MobileMultiModalLLM(), "after": MobileMultiModalLLM(output / "onnx_int8")}
    for name in names[4::5]:  # every fifth picture was held out
        for when, model in models.items():
            print(f"{name} {when}: {model.generate_caption(folder / name)}")


if __name__ == "__main__":
    main()
