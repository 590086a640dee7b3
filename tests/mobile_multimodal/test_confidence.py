"""The map from a raw confidence to a chance: identity without one, order kept, limits from the model."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mmllm_cli.run_pictures import confidence_limit
from mobile_multimodal.bundle import ModelBundle
from mobile_multimodal.confidence import calibrate, logit
from mobile_multimodal.config import Calibration, ModelConfig, from_json, to_json
from mobile_multimodal.image import LoadedImage
from mobile_multimodal.model import MobileMultiModalLLM
from mobile_multimodal.results import TaskRequest


def test_the_map_keeps_the_order_and_the_range() -> None:
    calibration = Calibration(scale=1.3, offset=-0.7)
    values = [calibrate(raw, calibration) for raw in (0.0, 0.1, 0.5, 0.9, 1.0)]
    assert values == sorted(values)
    assert all(0 < value < 1 for value in values)
    assert calibrate(0.5, calibration) == pytest.approx(1 / (1 + np.exp(0.7)))
    assert calibrate(0.37, None) == 0.37
    assert calibrate(0.37, Calibration()) == pytest.approx(0.37)
    assert logit(0.5) == 0.0


def test_a_configuration_keeps_its_calibration() -> None:
    config = ModelConfig(calibration={"vqa": Calibration(1.2, -0.3, 0.14)})
    assert from_json(to_json(config)) == config
    old = to_json(ModelConfig())
    del old["calibration"]
    assert from_json(old).calibration == {}


@pytest.mark.parametrize("values", [{"scale": 0.0}, {"scale": -1.0}, {"min_confidence": 1.5}])
def test_a_map_that_would_turn_things_around_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"scale|min_confidence"):
        Calibration(**values)


def test_tasks_give_the_calibrated_confidence(tiny_bundle: ModelBundle) -> None:
    model = MobileMultiModalLLM(tiny_bundle.directory, backend="torch")
    image = [LoadedImage(np.zeros((64, 64, 3), np.uint8), "<test>")]
    requests = [TaskRequest("caption"), TaskRequest("vqa", "what is it?")]
    raw = model.run(image, requests)[0]
    calibration = {"caption": Calibration(2.0, 1.0)}
    runtime = model._runtime
    model._runtime = dataclasses.replace(
        runtime, config=dataclasses.replace(runtime.config, calibration=calibration)
    )
    caption, answer = model.run(image, requests)[0]
    assert raw[0].confidence is not None
    assert caption.confidence == pytest.approx(calibrate(raw[0].confidence, calibration["caption"]))
    assert answer.confidence == raw[1].confidence
    assert caption.token_ids == raw[0].token_ids


def test_the_model_s_limit_holds_unless_the_user_sets_one() -> None:
    config = ModelConfig(calibration={"vqa": Calibration(1.0, 0.0, 0.14)})
    assert confidence_limit(None, "vqa", config) == 0.14
    assert confidence_limit(None, "caption", config) == 0.0
    assert confidence_limit(0.0, "vqa", config) == 0.0
    assert confidence_limit(0.6, "vqa", config) == 0.6
