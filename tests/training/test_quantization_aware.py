"""Training on the grids of a recipe: what is rounded, what learns, what is stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mobile_multimodal.bundle import ModelBundle, load_bundle
from mobile_multimodal.errors import UsageError
from mobile_multimodal.model import open_backend
from mobile_multimodal.quantized_tensor import QuantizationScheme, QuantizedTensor
from quantization.plan import plan_quantization
from quantization.quantize import Prepared, quantize_bundle, quantize_tensor
from quantization.recipe import load_recipe
from training.batches import Batch
from training.caption_model import CaptionModel
from training.distillation import Distillation, relative_error
from training.fake_quantization import FakeQuantize
from training.prune_names import names_shown, prune_names
from training.quantization_aware import caption_model, learned_tensors, prepare_captioner

SCHEMES = (QuantizationScheme(2), QuantizationScheme(4, "per_group", 16), QuantizationScheme(8))


@pytest.fixture
def student(tiny_bundle: ModelBundle) -> CaptionModel:
    model = caption_model(tiny_bundle)
    prepare_captioner(model, plan_quantization(tiny_bundle, load_recipe("int2")))
    return model


def batch_of(model: CaptionModel) -> Batch:
    rng = torch.Generator().manual_seed(0)
    side, tokenizer = model.config.vision.image_size, model.tokenizer
    inputs = [tokenizer.caption_id, *tokenizer.encode("a dog runs")]
    ids = torch.tensor([inputs, inputs])
    targets = torch.cat((ids[:, 1:], torch.full((2, 1), tokenizer.end_id)), dim=1)
    names = torch.full((2, model.config.text.num_name_slots), tokenizer.pad_id)
    names[0, :2] = torch.tensor(tokenizer.encode("thing")[:1] * 2)
    pixels = torch.randint(0, 256, (2, side, side, 3), dtype=torch.uint8, generator=rng)
    return Batch(pixels, ids, targets, torch.ones(ids.shape), torch.arange(2), names, (0, 1))


def start(scheme: QuantizationScheme, shape: tuple[int, ...], axis: int) -> tuple[torch.Tensor, FakeQuantize]:
    rng = np.random.default_rng(0)
    channels, columns = shape[axis], int(np.prod(shape)) // shape[axis]
    values = rng.integers(-scheme.largest, scheme.largest + 1, (channels, columns)).astype(np.int8)
    scale = rng.uniform(0.05, 0.1, (channels, scheme.groups(columns)))
    tensor = QuantizedTensor.of(values, scale, scheme, shape, axis)
    return torch.from_numpy(tensor.dequantize()), FakeQuantize(tensor)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@pytest.mark.parametrize(("shape", "axis"), [((6, 40), 0), ((6, 5, 3, 3), 0), ((5, 6, 2, 2), 1)])
def test_what_trains_is_what_is_stored(scheme: QuantizationScheme, shape: tuple[int, ...], axis: int) -> None:
    weight, grid = start(scheme, shape, axis)
    noisy = weight + 0.02 * torch.randn(shape, generator=torch.Generator().manual_seed(1))
    stored = grid.stored(noisy)
    assert np.array_equal(grid(noisy).detach().numpy(), stored.dequantize())
    assert not np.array_equal(stored.dequantize(), noisy.numpy())
    # A weight that lies on its grid stays there.
    assert np.allclose(grid(weight).detach().numpy(), weight.numpy(), rtol=1e-3)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@pytest.mark.parametrize(("shape", "axis"), [((6, 40), 0), ((5, 6, 2, 2), 1)])
def test_a_resumed_weight_rounds_as_stored_and_can_learn(
    scheme: QuantizationScheme, shape: tuple[int, ...], axis: int
) -> None:
    _, grid = start(scheme, shape, axis)
    _, other = start(scheme, shape, axis)
    with torch.no_grad():
        other.log_scale.add_(0.3)
    generator = torch.Generator().manual_seed(2)
    trained = other.stored(0.2 * torch.randn(shape, generator=generator))
    floats = 0.5 * torch.randn(shape, generator=generator)
    resumed = grid.resume(floats, trained).requires_grad_()
    assert np.array_equal(grid.stored(resumed.detach()).dequantize(), trained.dequantize())
    grid(resumed).sum().backward()
    assert resumed.grad is not None
    assert torch.allclose(resumed.grad, torch.ones(shape))
    # A float that rounds as stored, within the range, is not moved.
    near = torch.from_numpy(trained.dequantize()) * 0.99
    kept = np.abs(trained.values()) < scheme.largest
    moved = (grid.resume(near, trained) - near).abs().movedim(axis, 0).flatten(1).numpy()
    assert moved[kept].max() < 1e-6


def test_a_stored_model_trains_on_from_where_it_stands(
    student: CaptionModel, tiny_bundle: ModelBundle, tmp_path: Path
) -> None:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.05 * parameter.abs().mean() * torch.randn(parameter.shape, generator=generator))
    recipe, learned = load_recipe("int2"), learned_tensors(student)
    prepared = Prepared(learned=learned)
    trained = quantize_bundle(tiny_bundle, recipe, tmp_path / "trained", prepared=prepared).bundle
    model = caption_model(tiny_bundle)
    prepare_captioner(model, plan_quantization(tiny_bundle, recipe), trained)
    for component, tensors in learned_tensors(model).items():
        for name, tensor in trained.stored_weights(component).items():
            found = tensors[name]
            if isinstance(tensor, QuantizedTensor):
                assert isinstance(found, QuantizedTensor)
                assert np.array_equal(found.packed, tensor.packed), name
                assert np.array_equal(found.scale, tensor.scale), name
            else:
                assert np.array_equal(found, tensor), name
    with pytest.raises(ValueError, match="not stored quantized"):
        prepare_captioner(caption_model(tiny_bundle), plan_quantization(tiny_bundle, recipe), tiny_bundle)


def test_gradients_pass_the_rounding_as_learned_step_sizes_have_it() -> None:
    """LSQ, equation 3, for weights inside and outside the range of one channel of 2 bits."""
    scheme = QuantizationScheme(2)
    grid = FakeQuantize(QuantizedTensor.of(np.ones((1, 4), np.int8), np.array([[0.5]]), scheme, (1, 4)))
    weight = torch.tensor([[0.1, 0.4, 0.9, -2.0]], requires_grad=True)
    grid(weight).sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [[1.0, 1.0, 0.0, 0.0]]
    # d/ds: round(w/s) - w/s inside, the bound outside; the chain through the logarithm multiplies by s.
    by_hand = (0 - 0.2) + (1 - 0.8) + 1 - 1
    assert grid.log_scale.grad is not None
    assert grid.log_scale.grad.item() == pytest.approx(0.5 * by_hand, abs=1e-6)


def test_layers_of_eight_bits_keep_their_weights(student: CaptionModel) -> None:
    backbone = student.encoder.backbone
    assert not any(parameter.requires_grad for parameter in backbone.stem.parameters())
    assert not any(parameter.requires_grad for parameter in backbone.blocks[7].parameters())
    assert all(parameter.requires_grad for parameter in backbone.blocks[8].parameters())
    assert all(parameter.requires_grad for parameter in student.decoder.layers.parameters())


def test_a_step_brings_the_student_nearer_and_reaches_every_part(
    student: CaptionModel, tiny_bundle: ModelBundle
) -> None:
    teacher = caption_model(tiny_bundle).eval().requires_grad_(False)
    loss, batch = Distillation(teacher, drawn_captions=1), batch_of(student)
    optimizer = torch.optim.Adam([p for p in student.parameters() if p.requires_grad], lr=3e-4)
    sums = []
    for step in range(6):
        torch.manual_seed(0)  # the teacher draws the same captions
        terms = loss(student, batch)
        total = torch.stack(list(terms.values())).sum()
        sums.append(total.item())
        optimizer.zero_grad()
        total.backward()
        if step == 0:
            for part in (student.encoder.projector, student.decoder.layers, student.encoder.backbone.words):
                assert isinstance(part, nn.Module)
                assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())
        optimizer.step()
    assert sums[-1] < 0.9 * sums[0]


def test_the_bundle_is_the_trained_model(
    student: CaptionModel, tiny_bundle: ModelBundle, tmp_path: Path
) -> None:
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape))
    recipe = load_recipe("int2")
    result = quantize_bundle(
        tiny_bundle, recipe, tmp_path / "q", prepared=Prepared(learned=learned_tensors(student))
    )
    pixels = batch_of(student).pixels.numpy()
    found = open_backend(load_bundle(tmp_path / "q"), "torch", 1).run(
        "vision_encoder", {"pixel_values": pixels}
    )
    with torch.no_grad():
        wanted = student.eval().encoder(torch.from_numpy(pixels))
    # Vectors are stored in half precision.
    for name in ("image_key", "class_logits"):
        assert np.allclose(found[name], getattr(wanted, name).numpy(), rtol=0.02, atol=0.02), name
    trained = {row.tensor for row in result.report.tensors if row.algorithm == "trained"}
    assert {"backbone.blocks.9.expand.weight", "layers.0.expand.weight"} <= trained
    assert result.bundle.recipe == "weight_only_wi2_afp32"


def test_relative_error() -> None:
    wanted = torch.tensor([3.0, 4.0])
    assert relative_error(wanted, wanted) == 0
    assert relative_error(torch.zeros(2), wanted) == pytest.approx(1.0)
    assert relative_error(torch.tensor([3.0, 3.0]), wanted) == pytest.approx(1 / 25)


def test_pruned_names_leave_the_others_as_they_were(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    vision = tiny_bundle.config.vision
    kept = [3, 7, 500, vision.num_classes + 1, vision.num_classes + 4]
    pruned = prune_names(tiny_bundle, kept, tmp_path / "pruned")
    assert pruned.class_names == tuple(tiny_bundle.class_names[i] for i in kept)
    assert (pruned.config.vision.num_classes, pruned.config.vision.num_words) == (3, 2)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    whole, small = (
        open_backend(bundle, "torch", 1).run("vision_encoder", {"pixel_values": pixels})
        for bundle in (tiny_bundle, pruned)
    )
    assert np.allclose(small["class_logits"], whole["class_logits"][:, kept], atol=1e-5)
    assert np.allclose(small["image_key"], whole["image_key"], atol=1e-5)
    before, after = (b.component("vision_encoder").parameters for b in (tiny_bundle, pruned))
    assert before - after == (vision.num_names - 5) * (vision.feature_channels + 1)


@pytest.mark.parametrize("kept", [[], [3, 2, 1001], [5], [1001], [0, 5000], [0, 0, 1001]])
def test_names_that_make_no_model_are_refused(
    kept: list[int], tiny_bundle: ModelBundle, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="names to keep"):
        prune_names(tiny_bundle, kept, tmp_path / "pruned")
    assert not (tmp_path / "pruned").exists()


def test_only_a_float_bundle_is_pruned(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    small = quantize_bundle(tiny_bundle, load_recipe("int8"), tmp_path / "q").bundle
    with pytest.raises(UsageError, match="is quantized"):
        prune_names(small, [0, 1001], tmp_path / "pruned")


def test_names_are_counted_by_picture() -> None:
    assert names_shown([(1, 5), (5,), (2, 1), (5,)], 2) == [1, 5]
    assert names_shown([], 1) == []


def test_training_starts_from_the_recipes_own_rounding(
    student: CaptionModel, tiny_bundle: ModelBundle
) -> None:
    planned = plan_quantization(tiny_bundle, load_recipe("int2"))
    row = next(row for row in planned if row.tensor == "layers.0.expand.weight")
    float_weight = tiny_bundle.weights("text_decoder")[row.tensor]
    started = learned_tensors(student)["text_decoder"][row.tensor]
    assert isinstance(started, QuantizedTensor)
    assert np.array_equal(started.values(), quantize_tensor(float_weight, row).values())
