"""``bundle.json`` and ``artifact.json``: what a model directory holds, and the proof that it still does."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from mobile_multimodal.errors import BundleError
from mobile_multimodal.tensor_spec import TensorSpec

__all__ = ["MANIFEST_NAMES", "SCHEMA_VERSION", "Component", "FileEntry", "GraphSpec", "Manifest", "hash_file"]

SCHEMA_VERSION = 1
MANIFEST_NAMES = {"bundle": "bundle.json", "artifact": "artifact.json"}
_REINSTALL = "reinstall it: pip install --force-reinstall mmllm"


@dataclass(frozen=True)
class GraphSpec:
    """One graph of fixed sizes in a component's file: what it is called there, and its tensors."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def to_json(self) -> dict[str, Any]:
        """The JSON form that artifact.json holds."""
        return {"name": self.name, **_tensors_to_json(self)}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> GraphSpec:
        """Read back what :meth:`to_json` wrote; an unknown key is a ``TypeError``."""
        return cls(**_tensors_from_json(row))


@dataclass(frozen=True)
class Component:
    """One network: its graph's inputs and outputs, the file of its weights, and how many there are.

    A runtime that cannot hold sizes that vary has several ``graphs`` of fixed sizes in the one file, which
    share the weights; none means that the file holds one graph, whose sizes vary as the specs say.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    weights: str
    parameters: int
    graphs: tuple[GraphSpec, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The JSON form that a manifest holds."""
        row = {
            "name": self.name,
            **_tensors_to_json(self),
            "weights": self.weights,
            "parameters": self.parameters,
        }
        return row | ({"graphs": [graph.to_json() for graph in self.graphs]} if self.graphs else {})

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Component:
        """Read back what :meth:`to_json` wrote; an unknown key is a ``TypeError``."""
        fields = _tensors_from_json(row)
        graphs = tuple(GraphSpec.from_json(graph) for graph in fields.pop("graphs", ()))
        return cls(graphs=graphs, **fields)


def _tensors_to_json(graph: GraphSpec | Component) -> dict[str, Any]:
    return {
        "inputs": [spec.to_json() for spec in graph.inputs],
        "outputs": [spec.to_json() for spec in graph.outputs],
    }


def _tensors_from_json(row: Mapping[str, Any]) -> dict[str, Any]:
    tensors = {key: tuple(TensorSpec.from_json(spec) for spec in row[key]) for key in ("inputs", "outputs")}
    return {**row, **tensors}


@dataclass(frozen=True)
class FileEntry:
    """One file of the directory, as it was written."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """What a model directory holds.

    ``kind`` is ``bundle`` (weights as safetensors, run by torch) or ``artifact`` (exported graphs, run
    by ``target``'s runtime); ``bundle_sha256`` names the bundle that an artifact was made from.
    """

    kind: str
    name: str
    recipe: str
    target: str
    components: tuple[Component, ...]
    files: Mapping[str, FileEntry]
    tool_versions: Mapping[str, str] = field(default_factory=dict)
    bundle_sha256: str | None = None
    schema_version: int = SCHEMA_VERSION

    def to_bytes(self) -> bytes:
        """The manifest as JSON, keys sorted, so that equal manifests are equal files."""
        row = {
            "schema_version": self.schema_version,
            "name": self.name,
            "recipe": self.recipe,
            "target": self.target,
            "components": [component.to_json() for component in self.components],
            "files": {name: vars(entry) for name, entry in self.files.items()},
            "tool_versions": dict(self.tool_versions),
            "bundle_sha256": self.bundle_sha256,
        }
        return (json.dumps(row, indent=1, sort_keys=True) + "\n").encode()

    @property
    def sha256(self) -> str:
        """The hash of the manifest, which holds the hashes of all files: it names the whole directory."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def write(self, directory: Path) -> None:
        """Write the manifest under a temporary name, then rename it."""
        path = directory / MANIFEST_NAMES[self.kind]
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(self.to_bytes())
        os.replace(temporary, path)

    @classmethod
    def read(cls, directory: Path) -> Manifest:
        """Read a directory's manifest; its files are not looked at.

        Raises:
            BundleError: no manifest, one of a newer schema, or one that cannot be understood.
        """
        # Unlike Path.is_file it does not raise where the directory may not be entered.
        kind = next((kind for kind, name in MANIFEST_NAMES.items() if os.path.isfile(directory / name)), None)
        if kind is None:
            raise BundleError(
                f"{directory} holds neither bundle.json nor artifact.json", remedy="name a model directory"
            )
        path = directory / MANIFEST_NAMES[kind]
        try:
            row = json.loads(path.read_bytes())
        except (OSError, ValueError) as exc:
            raise BundleError(f"{path} cannot be read: {exc}", remedy=_REINSTALL) from exc
        version = row.get("schema_version") if isinstance(row, dict) else None
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise BundleError(
                f"{path} has schema version {version}, this mmllm reads up to {SCHEMA_VERSION}",
                remedy="pip install --upgrade mmllm",
            )
        try:
            return cls._from_json(kind, row)
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            raise BundleError(f"{path} is not a manifest: {exc!r}", remedy=_REINSTALL) from exc

    @classmethod
    def _from_json(cls, kind: str, row: Mapping[str, Any]) -> Manifest:
        fields = dict(row)
        components = tuple(Component.from_json(component) for component in fields.pop("components"))
        files = {name: FileEntry(**entry) for name, entry in fields.pop("files").items()}
        for name in files:
            if not _stays_inside(name):
                raise ValueError(f"file name {name!r} leaves the directory")
        if type(fields.get("schema_version")) is not int:
            raise ValueError("schema_version is missing or no whole number")
        for component in components:
            # A Core ML package is a directory, of which the files are listed.
            inside = f"{component.weights}/"
            if component.weights not in files and not any(name.startswith(inside) for name in files):
                raise ValueError(
                    f"{component.name} has its weights in {component.weights!r}, which is not listed"
                )
        return cls(kind=kind, components=components, files=files, **fields)

    def verify(self, directory: Path) -> None:
        """Check size and hash of every file.

        Raises:
            BundleError: a file is missing, cut off or changed; the message names it.
        """
        for name, entry in self.files.items():
            path = directory / name
            try:
                size, digest = path.stat().st_size, hash_file(path)
            except OSError as exc:
                raise BundleError(f"{path}: {exc.strerror}", remedy=_REINSTALL) from exc
            if size != entry.bytes:
                raise BundleError(f"{path} has {size} bytes, not {entry.bytes}", remedy=_REINSTALL)
            if digest != entry.sha256:
                raise BundleError(
                    f"{path} was changed: sha256 {digest[:12]}…, not {entry.sha256[:12]}…", remedy=_REINSTALL
                )


def _stays_inside(name: str) -> bool:
    """Whether this is a plain relative path, with forward slashes, of a file below the directory."""
    path = PurePosixPath(name)
    return (
        name == str(path)
        and not path.is_absolute()
        and not {"..", "."} & set(path.parts)
        and "\\" not in name
    )


def hash_file(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
