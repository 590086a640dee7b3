"""Timing others: the real classes in small sizes, what is missing stays listed, ratios are of medians."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from benchmarks.peers.__main__ import main, show
from benchmarks.peers.architectures import BLIP_BASE, SMOLVLM_256M, blip_base, smolvlm_256m
from benchmarks.peers.race import OURS, Competitor, Lap, open_all, our_captioner, race
from benchmarks.peers.readers import READERS, rapidocr, tesseract
from benchmarks.stages import drawn_page
from mobile_multimodal import MobileMultiModalLLM, load_image
from mobile_multimodal.errors import MissingExtraError
from tests.source_tree import ROOT

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


def test_the_other_architectures_write_as_many_tokens_as_they_are_told() -> None:
    pytest.importorskip("transformers")
    blip = blip_base(
        7,
        vision_config={**SMALL, "image_size": 64},
        text_config={**SMALL, "encoder_hidden_size": 32, "vocab_size": 30524},
    )
    assert blip(PIXELS) == 7
    text = {**SMALL, "model_type": "llama", "num_key_value_heads": 1, "vocab_size": 120, "head_dim": 16}
    smol = smolvlm_256m(
        5,
        vision_config={**SMALL, "image_size": 64, "patch_size": 8},
        text_config={**text, "pad_token_id": 2},
        image_token_id=110,
    )
    assert smol(PIXELS) == 5


def test_what_is_not_installed_stays_in_the_list_with_the_remedy() -> None:
    def missing(_: int) -> object:
        raise MissingExtraError("brainocr", "peers")

    [there, gone] = open_all({"there": lambda n: lambda _: n, "gone": missing}, 3)  # type: ignore[dict-item]
    laps = race([Competitor(OURS, lambda _: 1), there, gone], PIXELS, 4)
    assert [(lap.name, len(lap.samples_ms), lap.written) for lap in laps] == [
        (OURS, 4, 1),
        ("there", 4, 3),
        ("gone", 0, 0),
    ]
    assert "gone" in show(laps)
    assert "brainocr is not installed (pip install 'mmllm[peers]')" in show(laps)


def test_ratios_are_of_medians_to_the_first() -> None:
    laps = [Lap(OURS, (10.0, 11.0, 500.0)), Lap("other", (440.0, 450.0, 1.0))]
    first, second = show(laps).splitlines()
    assert "11.0 ms, median of 3; fastest 10.0 ms" in first
    assert "times" not in first
    assert second.endswith("40.0 and 0.1 times as long")


def test_ours_is_the_model_itself() -> None:
    model = MobileMultiModalLLM(threads=1)
    photo = load_image(ROOT / "examples/images/cat.jpg").pixels
    assert our_captioner(model)(photo) > 3


@pytest.mark.parametrize("opener", [tesseract, rapidocr], ids=list(READERS))
def test_a_reader_that_is_there_reads_the_page(opener) -> None:  # type: ignore[no-untyped-def]
    try:
        reader = opener(1)
    except MissingExtraError as exc:
        pytest.skip(str(exc))
    assert reader(load_image(drawn_page()).pixels) > 100


def test_the_program_prints_one_document(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.peers.__main__.ARCHITECTURES", {"quick": lambda n: lambda _: n})
    monkeypatch.setattr("benchmarks.peers.__main__.READERS", {})
    picture = str(ROOT / "examples/images/cat.jpg")
    main(["--image", picture, "--runs", "2", "--threads", "1", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in document["captions"]] == [OURS, "quick"]
    assert all(len(row["samples_ms"]) == 2 for row in document["captions"])
    assert [row["written"] for row in document["captions"]] == [document["tokens"]] * 2
    first, second = document["captions"]
    assert second["ratio"] == second["median_ms"] / first["median_ms"]
    assert document["tokens"] > 3
    assert document["versions"].keys() >= {"onnxruntime", "torch"}


def test_the_networks_are_as_large_as_they_are_published() -> None:
    transformers = pytest.importorskip("transformers")
    import torch

    with torch.device("meta"):
        blip = transformers.BlipForConditionalGeneration(transformers.BlipConfig(**BLIP_BASE))
        smolvlm = transformers.SmolVLMForConditionalGeneration(transformers.SmolVLMConfig(**SMOLVLM_256M))
    # A ViT-B/16 each, SigLIP's without its pooling head; BERT's layers with cross-attention; SmolLM2-135M.
    assert millions(blip.vision_model) == pytest.approx(86, abs=1)
    assert millions(blip.text_decoder) == pytest.approx(138, abs=1)
    assert millions(smolvlm.model.vision_model) == pytest.approx(86, abs=1)
    assert millions(smolvlm.model.text_model) == pytest.approx(135, abs=1)
    assert millions(smolvlm) == pytest.approx(256, abs=1)


def millions(network: Any) -> float:
    return float(sum(x.numel() for x in network.parameters())) / 1e6
