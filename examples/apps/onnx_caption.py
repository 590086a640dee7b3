"""Caption a photo with an ONNX artifact and nothing of mmllm: python onnx_caption.py ARTIFACT_DIR IMAGE"""

import json
import sys
from pathlib import Path

import numpy as np
from onnxruntime import InferenceSession, SessionOptions
from PIL import Image, ImageOps
from tokenizers import Tokenizer

PAD, END, CAPTION, QUESTION, ANSWER = range(5)  # the vocabulary begins with them
SEEN, MASKED = np.float32(0), np.float32(-1e4)  # added to the scores of what a token sees, or must not
MAX_TOKENS = 24


def load_pixels(path, side):
    """The photo [1, side, side, 3]: upright, on white where it is transparent, squashed to a square."""
    photo = ImageOps.exif_transpose(Image.open(path)).convert("RGBA")
    photo = Image.alpha_composite(Image.new("RGBA", photo.size, "white"), photo).convert("RGB")
    return np.asarray(photo.resize((side, side), Image.Resampling.BILINEAR, reducing_gap=3.0))[None]


def choose_names(logits, vision, text):
    """Indices of the likeliest classes, which exclude each other, then of the likeliest caption words."""
    classes, words = np.split(logits, [vision["num_classes"]])
    odds = np.exp(classes - classes.max())
    for first, chances, most, least in (
        (0, odds / odds.sum(), text["num_class_names"], text["min_name_probability"]),
        (len(classes), 0.5 * (1 + np.tanh(0.5 * words)), text["num_words"], text["min_word_probability"]),
    ):
        yield from (first + i for i in np.argsort(-chances, kind="stable")[:most] if chances[i] >= least)


def build_prompt(names, slots):
    """The tokens of the names that fit, padded to the slots, and the task [S]."""
    ends = np.cumsum([len(tokens) for tokens in names])
    prompt = [token for tokens, end in zip(names, ends, strict=True) if end <= slots for token in tokens]
    return np.array([*prompt, *[PAD] * (slots - len(prompt)), CAPTION])


def write(decoder, image, prompt):
    """Read the prompt, then write the likeliest token again and again, until the end."""
    tokens, ids, positions = [], prompt, np.arange(len(prompt))
    visible = np.where(prompt == PAD, MASKED, SEEN)  # [T]
    key, value = (x[:, :, :, :0] for x in image.values())  # an empty cache [L, 1, H, 0, d]
    while len(tokens) < MAX_TOKENS:
        mask = np.where(np.tri(len(visible), dtype=bool), visible, MASKED)[-len(ids) :]  # [S, T]
        feeds = {"input_ids": ids[None], "position_ids": positions[None], "attention_mask": mask[None, None]}
        feeds |= {**image, "past_key": key, "past_value": value}
        logits, *new = decoder.run(["logits", "new_key", "new_value"], feeds)
        key, value = np.append(key, new[0], axis=3), np.append(value, new[1], axis=3)
        scores = logits[0, -1]
        scores[[PAD, CAPTION, QUESTION, ANSWER, *([] if tokens else [END])]] = MASKED
        if (token := int(scores.argmax())) == END:
            break
        tokens.append(token)
        ids, positions, visible = np.array([token]), positions[-1:] + 1, np.append(visible, SEEN)
    return tokens


folder, photo = Path(sys.argv[1]), sys.argv[2]
artifact, config = (json.loads((folder / name).read_bytes()) for name in ("artifact.json", "config.json"))
files = {component["name"]: folder / component["weights"] for component in artifact["components"]}
vision, text = config["vision"], config["text"]
options = SessionOptions()
# Without it the DequantizeLinear of 8-bit weights runs at every call instead of once at load.
options.add_session_config_entry("session.disable_quant_qdq", "1")
encoder, decoder = (InferenceSession(files[name], options) for name in ("vision_encoder", "text_decoder"))
tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
labels = (folder / "class_names.txt").read_text("utf-8").splitlines()

pixels = load_pixels(photo, vision["image_size"])
key, value, logits = encoder.run(["image_key", "image_value", "class_logits"], {"pixel_values": pixels})
names = [tokenizer.encode(labels[i]).ids for i in choose_names(logits[0], vision, text)]
image = {"image_key": key, "image_value": value}
tokens = write(decoder, image, build_prompt(names, text["num_name_slots"]))
caption = tokenizer.decode(tokens).strip().removesuffix(" that begins with")  # no text reader here
print(f"{caption[:1].upper()}{caption[1:]}.")
