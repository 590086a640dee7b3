"""Caption a photo with a TFLite artifact and nothing of mmllm: python litert_caption.py ARTIFACT_DIR IMAGE"""

import json
import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
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
    return np.array([*prompt, *[PAD] * (slots - len(prompt)), CAPTION], dtype=np.int32)


def write(decoder, image, prompt):
    """Read the prompt, then write the likeliest token again and again, until the end."""
    sizes = (int(name[8:]) for name in decoder.get_signature_list() if name.startswith("prefill_"))
    size = min(size for size in sizes if size >= len(prompt))
    prefill, decode = (decoder.get_signature_runner(name) for name in (f"prefill_{size}", "decode"))
    shape = decode.get_input_details()["past_key"]["shape"]  # [L, 1, H, T, d]
    past = {name: np.zeros(shape, np.float32) for name in ("past_key", "past_value")}
    visible = np.full(shape[3] + 1, MASKED)  # the cache, then the new token itself
    visible[[*np.flatnonzero(prompt != PAD), -1]] = SEEN
    mask = np.where(np.tri(size, dtype=bool), visible[:size], MASKED)[None, None]  # [1, 1, size, size]
    ids, positions = np.pad(prompt, (0, size - len(prompt)))[None], np.arange(size, dtype=np.int32)[None]
    new = prefill(input_ids=ids, position_ids=positions, attention_mask=mask, **image)
    tokens, start, stop = [], 0, len(prompt)
    while len(tokens) < MAX_TOKENS:
        for part in ("key", "value"):
            past[f"past_{part}"][:, :, :, start:stop] = new[f"new_{part}"][:, :, :, : stop - start]
        scores = new["logits"][0, stop - start - 1]
        scores[[PAD, CAPTION, QUESTION, ANSWER, *([] if tokens else [END])]] = MASKED
        if (token := int(scores.argmax())) == END:
            break
        tokens.append(token)
        ids, positions, mask = np.int32([[token]]), np.int32([[stop]]), visible[None, None, None]
        new = decode(input_ids=ids, position_ids=positions, attention_mask=mask, **image, **past)
        visible[stop], start, stop = SEEN, stop, stop + 1
    return tokens


folder, photo = Path(sys.argv[1]), sys.argv[2]
artifact, config = (json.loads((folder / name).read_bytes()) for name in ("artifact.json", "config.json"))
files = {component["name"]: str(folder / component["weights"]) for component in artifact["components"]}
vision, text = config["vision"], config["text"]
tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
labels = (folder / "class_names.txt").read_text("utf-8").splitlines()
encoder = Interpreter(files["vision_encoder"]).get_signature_runner("encode")
image = encoder(pixel_values=load_pixels(photo, vision["image_size"]))
names = [tokenizer.encode(labels[i]).ids for i in choose_names(image.pop("class_logits")[0], vision, text)]
tokens = write(Interpreter(files["text_decoder"]), image, build_prompt(names, text["num_name_slots"]))
caption = tokenizer.decode(tokens).strip().removesuffix(" that begins with")  # no text reader here
print(f"{caption[:1].upper()}{caption[1:]}.")
