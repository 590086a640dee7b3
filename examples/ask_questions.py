"""Ask about a photo: python examples/ask_questions.py [PHOTO QUESTION ...]"""

import sys
from pathlib import Path

from mobile_multimodal import MobileMultiModalLLM, TaskRequest, load_image

if len(sys.argv) > 2:
    photo, *questions = sys.argv[1:]
else:
    photo = str(Path(__file__).parent / "images" / "horses.jpg")
    questions = ["what animals are these?", "how many horses are there?", "is this indoors?"]

model = MobileMultiModalLLM()
# `run` encodes the photo once for all questions; `answer_question` would encode it for each.
requests = [TaskRequest("vqa", question) for question in questions]
[results] = model.run([load_image(photo)], requests)
for result in results:
    print(f"{result.question} {result.text} ({result.confidence:.2f})")
