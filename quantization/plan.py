"""What a recipe will do to a bundle, tensor by tensor, and how many bytes that will take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mobile_multimodal.bundle import ModelBundle
from mobile_multimodal.errors import UsageError
from mobile_multimodal.quantized_tensor import QuantizationScheme, QuantizedTensor
from quantization.recipe import QuantizationRecipe, QuantizationRule
from quantization.weight_roles import WeightRole, weight_roles

__all__ = ["PlannedTensor", "plan_quantization"]


@dataclass(frozen=True)
class PlannedTensor:
    """One tensor of a component and what becomes of it.

    ``role`` is None for vectors and tables that no recipe touches, ``scheme`` None for what stays as it
    is, at ``bytes_before``. ``input_method`` is how the grid of its layer's inputs is fitted, None where
    they stay float.
    """

    component: str
    tensor: str
    shape: tuple[int, ...]
    bytes_before: int
    role: WeightRole | None
    scheme: QuantizationScheme | None
    algorithm: str
    input_method: str | None = None

    @property
    def size(self) -> int:
        """How many numbers the tensor holds."""
        return math.prod(self.shape)

    @property
    def bytes_after(self) -> int:
        """Bytes of the tensor in the quantized bundle."""
        if self.scheme is None or self.role is None:
            return self.bytes_before
        return self.scheme.stored_bytes(self.shape, self.role.axis)

    @property
    def bits(self) -> int:
        """Bits of one stored number, without its share of the scales."""
        return 8 * self.bytes_before // self.size if self.scheme is None else self.scheme.bits


def plan_quantization(bundle: ModelBundle, recipe: QuantizationRecipe) -> Sequence[PlannedTensor]:
    """Every tensor of the bundle, in the order of its components and names.

    A weight that would take no fewer bytes than it does stays as it is.

    Raises:
        UsageError: a bundle that is quantized already, an artifact, or a rule that fits no weight.
    """
    if bundle.manifest.kind != "bundle":
        raise UsageError(
            f"{bundle.directory} is an artifact for {bundle.manifest.target}",
            remedy="name the bundle that it was exported from",
        )
    planned = []
    fitting: set[QuantizationRule] = set()
    for component in bundle.manifest.components:
        roles = weight_roles(component.name, bundle.config)
        for name, tensor in sorted(bundle.stored_weights(component.name).items()):
            if isinstance(tensor, QuantizedTensor):
                raise UsageError(
                    f"{bundle.directory} is quantized already ({bundle.recipe})",
                    remedy="name the float16 bundle",
                )
            role = roles.get(name)
            if role is not None:
                fitting.update(rule for rule in recipe.rules if rule.matches(component.name, name, role.kind))
            rule = None if role is None else recipe.rule_for(component.name, name, role.kind)
            plain = PlannedTensor(component.name, name, tensor.shape, tensor.nbytes, role, None, "")
            planned.append(plain)
            if role is not None and rule is not None:
                stored = PlannedTensor(
                    component.name,
                    name,
                    tensor.shape,
                    tensor.nbytes,
                    role,
                    rule.scheme,
                    rule.algorithm,
                    recipe.input_method(component.name, name, role.kind),
                )
                if stored.bytes_after < plain.bytes_after:
                    planned[-1] = stored
    # A rule that leaves weights alone may be there for other models; one that quantizes is meant to. One that
    # others go before may be there for components that this model lacks.
    if idle := [rule for rule in recipe.rules if rule.scheme is not None and rule not in fitting]:
        raise UsageError(
            f"recipe {recipe.name}: no weight fits the rule {idle[0].component} {idle[0].tensor}",
            remedy="mmllm info BUNDLE lists the components",
        )
    return planned
