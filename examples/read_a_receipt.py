"""Read a receipt and find its total: python examples/read_a_receipt.py [RECEIPT]"""

import re
import sys
from pathlib import Path

from mobile_multimodal import MobileMultiModalLLM, TextRegion


def find_total(regions: list[TextRegion]) -> str | None:
    """The amount that stands furthest right in the line of the word "total"."""
    labels = [region for region in regions if re.search(r"\btotal\b", region.text, re.IGNORECASE)]
    for label in reversed(labels):  # the last one counts: subtotals stand above it
        top, bottom = label.box[0][1], label.box[3][1]
        line = [region for region in regions if top <= (region.box[0][1] + region.box[3][1]) / 2 <= bottom]
        for region in sorted(line, key=lambda region: region.box[1][0], reverse=True):
            if amounts := re.findall(r"\d+[.,]\d{2}\b", region.text):
                return str(amounts[-1])
    return None


receipt = sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "images" / "receipt.png"
regions = MobileMultiModalLLM().extract_text(receipt)
for region in regions:
    print(f"{region.confidence:.2f} {region.text}")
total = find_total(regions)
print(f"total: {total}" if total else "no total found")
