"""Caption photos: python examples/caption_a_photo.py [PHOTO ...]"""

import sys
from pathlib import Path

from mobile_multimodal import MobileMultiModalLLM

photos = sys.argv[1:] or [Path(__file__).parent / "images" / "dog.jpg"]
model = MobileMultiModalLLM()
for photo in photos:
    print(f"{Path(photo).name}: {model.generate_caption(photo)}")
