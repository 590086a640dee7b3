"""A backend that remembers: to run the same calls on another one."""

from __future__ import annotations

from collections.abc import Mapping

from mobile_multimodal.backends import Array, Backend

__all__ = ["Call", "Recorder"]

Call = tuple[str, Mapping[str, Array], Mapping[str, Array]]
"""A component, what it was given, and what it gave."""


class Recorder:
    """Runs a backend and keeps what it was given and gave, call by call, of every component."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.name, self.components = backend.name, backend.components
        self.calls: list[Call] = []

    def run(self, component: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one component once; errors as the backend's."""
        outputs = self._backend.run(component, inputs)
        self.calls.append((component, {name: x.copy() for name, x in inputs.items()}, outputs))
        return outputs
