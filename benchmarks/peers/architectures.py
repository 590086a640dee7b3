"""Captioners of other architectures, as they are published, with random weights.

Latency does not depend on the weights; what the models say is theirs to claim, and is not looked at.
Nothing is downloaded: the sizes are written out here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mobile_multimodal.errors import MissingExtraError

__all__ = ["ARCHITECTURES", "BLIP_BASE", "SMOLVLM_256M", "Captioner", "blip_base", "smolvlm_256m"]

Captioner = Callable[[NDArray[np.uint8]], int]
"""Pixels [H, W, 3] → how many tokens were written."""
_VIT_BASE: Mapping[str, int] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
}
BLIP_BASE: Mapping[str, Any] = {
    "vision_config": {**_VIT_BASE, "image_size": 384, "patch_size": 16},
    "text_config": {
        **_VIT_BASE,
        "encoder_hidden_size": 768,
        "vocab_size": 30524,
        "max_position_embeddings": 512,
    },
}
"""What Salesforce/blip-image-captioning-base says of its sizes."""
SMOLVLM_256M: Mapping[str, Any] = {
    "vision_config": {**_VIT_BASE, "image_size": 512, "patch_size": 16},
    "text_config": {
        "model_type": "llama",
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "head_dim": 64,
        "vocab_size": 49280,
        "max_position_embeddings": 8192,
        "pad_token_id": 2,
    },
    "scale_factor": 4,
    "image_token_id": 49190,
    "tie_word_embeddings": False,
}
"""What HuggingFaceTB/SmolVLM-256M-Instruct says of its sizes."""
SMOLVLM_PROMPT = (4, 16)
"""Tokens of the chat template before and behind those of the image, about."""


def blip_base(tokens: int, **sizes: Any) -> Captioner:
    """BLIP-base for captions (Li et al., arXiv 2201.12086): ViT-B/16 at 384 pixels, a BERT-base decoder.

    ``sizes`` replace those of the published configuration, for tests.

    Raises:
        MissingExtraError: transformers or torch is not installed.
    """
    torch, transformers = _packages()
    torch.manual_seed(0)
    config = transformers.BlipConfig(**{**BLIP_BASE, **sizes})
    model = transformers.BlipForConditionalGeneration(config).eval()
    side = config.vision_config.image_size

    def caption(pixels: NDArray[np.uint8]) -> int:
        images = torch.from_numpy(_normalised(pixels, side))
        written = model.generate(pixel_values=images, **_exactly(tokens))
        return int(written.shape[1]) - 1  # it begins with the token that stands for a beginning

    return caption


def smolvlm_256m(tokens: int, **sizes: Any) -> Captioner:
    """SmolVLM-256M (Marafioti et al., arXiv 2504.05299): SigLIP-B/16 on one tile of 512 pixels, SmolLM2-135M.

    One tile is the least that it takes; photos are usually cut into several. ``sizes`` as for
    :func:`blip_base`.

    Raises:
        MissingExtraError: transformers or torch is not installed.
    """
    torch, transformers = _packages()
    torch.manual_seed(0)
    config = transformers.SmolVLMConfig(**{**SMOLVLM_256M, **sizes})
    model = transformers.SmolVLMForConditionalGeneration(config).eval()
    side = config.vision_config.image_size
    of_image = (side // config.vision_config.patch_size // config.scale_factor) ** 2
    before, behind = SMOLVLM_PROMPT
    prompt = [5] * before + [config.image_token_id] * of_image + [5] * behind
    ids = torch.tensor([prompt])

    def caption(pixels: NDArray[np.uint8]) -> int:
        images = torch.from_numpy(_normalised(pixels, side))[:, None]
        written = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=images, **_exactly(tokens)
        )
        return int(written.shape[1]) - len(prompt)

    return caption


ARCHITECTURES: Mapping[str, Callable[[int], Captioner]] = {
    "BLIP-base": blip_base,
    "SmolVLM-256M, one tile": smolvlm_256m,
}
"""Every architecture by its name: ``(tokens to write) → captioner``."""


def _packages() -> tuple[Any, Any]:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        import torch
        import transformers
    except ImportError as exc:
        raise MissingExtraError(exc.name or "transformers", "peers") from exc
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    return torch, transformers


def _normalised(pixels: NDArray[np.uint8], side: int) -> NDArray[np.float32]:
    """The picture as these encoders take it: [1, 3, side, side], about -1 to 1."""
    square = Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)
    scaled = np.asarray(square, dtype=np.float32) / 127.5 - 1.0
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None])


def _exactly(tokens: int) -> dict[str, Any]:
    """Greedy, and neither longer nor shorter."""
    return {"max_new_tokens": tokens, "min_new_tokens": tokens, "do_sample": False, "num_beams": 1}
