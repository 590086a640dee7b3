"""Quantization-aware training: a float bundle and a recipe → a model trained on the recipe's grids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mobile_multimodal.backends.torch_backend import load_modules
from mobile_multimodal.bundle import ModelBundle
from mobile_multimodal.errors import UsageError
from mobile_multimodal.weight_files import StoredTensor
from quantization.plan import PlannedTensor, plan_quantization
from quantization.recipe import QuantizationRecipe
from training.caption_model import CaptionModel
from training.checkpoint import load_checkpoint, save_checkpoint
from training.distillation import Distillation
from training.fake_quantization import fake_quantize, float_state, resume_weights, stored_weights
from training.stages import Stage, StageOptions, train_stage

__all__ = ["CAPTIONER", "caption_model", "learned_tensors", "prepare_captioner", "train_quantized"]

LearnedTensors = Mapping[str, Mapping[str, StoredTensor]]
CAPTIONER = {"vision_encoder": "encoder", "text_decoder": "decoder"}
"""The components that training reaches, and what the training model calls them."""


def caption_model(bundle: ModelBundle) -> CaptionModel:
    """The captioner of a bundle as it trains, without dropout."""
    modules = load_modules(bundle)
    model = CaptionModel(bundle.config, bundle.tokenizer, bundle.class_names, 0.0)
    for component, part in CAPTIONER.items():
        model.get_submodule(part).load_state_dict(modules[component].state_dict())
    return model


def prepare_captioner(
    model: CaptionModel, planned: Sequence[PlannedTensor], trained: ModelBundle | None = None
) -> None:
    """Put the captioner's weights on the grids of the plan, in place.

    A layer of 8 bits has nothing to gain and keeps its weights; all others learn. With ``trained``, a bundle
    that training by the same plan has made, they go on from where it stands.
    """
    model.requires_grad_(True)
    for component, part in CAPTIONER.items():
        network = model.get_submodule(part)
        rows = [tensor for tensor in planned if tensor.component == component]
        fake_quantize(network, rows)
        if trained is not None:
            resume_weights(network, trained.stored_weights(component))
        for tensor in rows:
            if tensor.scheme is not None and tensor.bits == 8:
                network.get_submodule(tensor.tensor.rpartition(".")[0]).requires_grad_(False)


def train_quantized(
    bundle: ModelBundle,
    recipe: QuantizationRecipe,
    stage: Stage,
    options: StageOptions,
    trained: ModelBundle | None = None,
) -> tuple[LearnedTensors, Mapping[str, float]]:
    """Train the captioner of a float bundle on the recipe's grids, towards the float one.

    Training resumes from the stage's folder, or begins where ``trained``, a bundle of this recipe and of the
    same names, stands. Returns what :func:`~quantization.quantize.prepare` takes as
    learned, of the state that did best on validation, and that state's figures. The text reader does not
    train.

    Raises:
        UsageError: as :func:`~quantization.plan.plan_quantization`; a ``trained`` of another recipe.
        DataError: a checkpoint is damaged.
    """
    if trained is not None and trained.recipe != recipe.name:
        raise UsageError(f"{trained.directory} is {trained.recipe}, not {recipe.name}")
    planned = plan_quantization(bundle, recipe)
    teacher = caption_model(bundle).eval().requires_grad_(False).to(stage.device)
    start = stage.run / f"{options.name}-start.pt"
    save_checkpoint(start, model=teacher.state_dict())
    best = train_stage(
        stage,
        start,
        options,
        Distillation(teacher),
        prepare=lambda model: prepare_captioner(model, planned, trained),
    )
    state = load_checkpoint(best)
    assert state is not None
    model = caption_model(bundle)
    prepare_captioner(model, planned)
    model.load_state_dict(state["model"])
    return learned_tensors(model), state["figures"]


def learned_tensors(model: CaptionModel) -> LearnedTensors:
    """What the fake-quantized captioner is stored as, by component: packed weights, the rest in float16."""
    learned: dict[str, dict[str, StoredTensor]] = {}
    for component, part in CAPTIONER.items():
        network = model.get_submodule(part)
        halves = {name: value.half().numpy() for name, value in float_state(network).items()}
        learned[component] = {**halves, **stored_weights(network)}
    return learned
