"""Bundles and artifacts: written whole, verified when loaded, refused in one line when they lie."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from mobile_multimodal.bundle import ModelBundle, find_model, load_bundle, packaged_models, save_directory
from mobile_multimodal.errors import BundleError, UsageError
from mobile_multimodal.manifest import Manifest
from tests.tiny import TINY


@pytest.fixture
def copy(tiny_bundle: ModelBundle, tmp_path: Path) -> Path:
    """A copy of the bundle that may be damaged."""
    return Path(shutil.copytree(tiny_bundle.directory, tmp_path / "copy"))


def edit_manifest(directory: Path, **changes: object) -> None:
    path = directory / "bundle.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_round_trip_changes_nothing(tiny_bundle: ModelBundle) -> None:
    loaded = load_bundle(tiny_bundle.directory)
    assert loaded.config == TINY
    assert loaded.sha256 == tiny_bundle.sha256
    assert loaded.manifest == tiny_bundle.manifest
    weights = loaded.weights("text_decoder")
    assert weights["token_embedding.weight"].dtype == np.float16
    assert sum(w.size for w in weights.values()) == loaded.component("text_decoder").parameters


def test_equal_content_has_equal_hashes(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    from tests.tiny import write_tiny_bundle

    assert write_tiny_bundle(tmp_path / "again").sha256 == tiny_bundle.sha256
    assert write_tiny_bundle(tmp_path / "other", seed=1).sha256 != tiny_bundle.sha256


@pytest.mark.parametrize(
    "file", ["text_decoder.safetensors", "config.json", "tokenizer.json", "class_names.txt"]
)
def test_one_changed_byte_is_found(copy: Path, file: str) -> None:
    content = bytearray((copy / file).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / file).write_bytes(content)
    with pytest.raises(BundleError, match=rf"{file} was changed: sha256"):
        load_bundle(copy)


def test_a_cut_file_is_found(copy: Path) -> None:
    path = copy / "vision_encoder.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BundleError, match=r"vision_encoder.safetensors has \d+ bytes, not \d+"):
        load_bundle(copy)


def test_a_missing_file_is_found(copy: Path) -> None:
    (copy / "tokenizer.json").unlink()
    with pytest.raises(BundleError, match=r"tokenizer\.json: No such file"):
        load_bundle(copy)


def test_a_newer_schema_is_refused(copy: Path) -> None:
    edit_manifest(copy, schema_version=2)
    with pytest.raises(BundleError, match=r"schema version 2, this mmllm reads up to 1 .*upgrade"):
        load_bundle(copy)


@pytest.mark.parametrize(
    "changes",
    [
        {"surprise": 1},
        {"files": {"../x": {"sha256": "", "bytes": 0}}},
        {"files": {}},
        {"components": 3},
        {"schema_version": "1"},
    ],
)
def test_a_manifest_that_is_none_is_refused(copy: Path, changes: dict[str, object]) -> None:
    edit_manifest(copy, **changes)
    with pytest.raises(BundleError, match="is not a manifest"):
        load_bundle(copy)


def test_a_file_that_is_not_listed_is_not_read(copy: Path) -> None:
    files = json.loads((copy / "bundle.json").read_text())["files"]
    del files["config.json"]
    edit_manifest(copy, files=files)
    with pytest.raises(BundleError, match=r"does not list config\.json"):
        load_bundle(copy)


def test_a_missing_component_is_named(copy: Path) -> None:
    components = json.loads((copy / "bundle.json").read_text())["components"]
    edit_manifest(copy, components=components[:1])
    with pytest.raises(BundleError, match=r"has the components vision_encoder, .*, text_decoder"):
        load_bundle(copy)


def test_broken_json_is_refused(copy: Path) -> None:
    (copy / "bundle.json").write_text("{")
    with pytest.raises(BundleError, match="cannot be read"):
        load_bundle(copy)


def test_a_folder_without_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"neither bundle\.json nor artifact\.json"):
        Manifest.read(tmp_path)


def save_again(bundle: ModelBundle, output: Path, *, force: bool) -> ModelBundle:
    return save_directory(
        output,
        {c.weights: bundle.directory / c.weights for c in bundle.manifest.components},
        kind="bundle",
        target="torch",
        recipe="float16",
        config=bundle.config,
        tokenizer=bundle.tokenizer,
        class_names=bundle.class_names,
        components=bundle.manifest.components,
        tool_versions={},
        force=force,
    )


def test_an_existing_output_is_kept_unless_forced(tiny_bundle: ModelBundle, copy: Path) -> None:
    with pytest.raises(UsageError, match=r"copy exists .*--force"):
        save_again(tiny_bundle, copy, force=False)
    (copy / "stale").touch()
    assert save_again(tiny_bundle, copy, force=True).sha256 == tiny_bundle.sha256
    assert not (copy / "stale").exists()


def test_a_failed_write_leaves_nothing(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"out cannot be written: .*absent"):
        save_directory(
            tmp_path / "out",
            {"text_decoder.safetensors": tmp_path / "absent"},
            kind="bundle",
            target="torch",
            recipe="float16",
            config=tiny_bundle.config,
            tokenizer=tiny_bundle.tokenizer,
            class_names=tiny_bundle.class_names,
            components=(),
            tool_versions={},
        )
    assert list(tmp_path.iterdir()) == []


def test_force_replaces_nothing_but_models(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").touch()
    for output in (photos, photos / "a.jpg"):
        with pytest.raises(UsageError, match="is no model directory and is not replaced"):
            save_again(tiny_bundle, output, force=True)
    assert (photos / "a.jpg").exists()
    (tmp_path / "empty").mkdir()
    assert save_again(tiny_bundle, tmp_path / "empty", force=True).directory == tmp_path / "empty"


def test_a_link_is_replaced_and_its_target_stays(
    tiny_bundle: ModelBundle, copy: Path, tmp_path: Path
) -> None:
    link = tmp_path / "größe"
    link.symlink_to(copy)
    (copy / "mine").touch()
    assert save_again(tiny_bundle, link, force=True).sha256 == tiny_bundle.sha256
    assert not link.is_symlink()
    assert (copy / "mine").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "größe"]


def test_the_old_model_stays_where_the_new_cannot_be_placed(
    tiny_bundle: ModelBundle, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def refused(path: Path, target: Path) -> Path:
        if target == copy and not path.name.endswith(".old"):
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refused)
    (copy / "mine").touch()
    with pytest.raises(BundleError, match="No space left"):
        save_again(tiny_bundle, copy, force=True)
    assert (copy / "mine").exists()
    assert [path.name for path in copy.parent.iterdir()] == ["copy"]


def test_a_place_that_cannot_be_written_is_named(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match=r"out cannot be written: .*name another output"):
        save_again(tiny_bundle, tmp_path / "file" / "out", force=False)


def test_an_unknown_model_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'mmllm-bass' is neither .*mmllm-base"):
        find_model("mmllm-bass", "onnxruntime")
    with pytest.raises(UsageError, match=r"unknown backend 'tensorrt' .*onnxruntime, torch"):
        find_model(None, "tensorrt")
    for name in ("", "x" * 5000, "a\0b"):
        with pytest.raises(UsageError, match="neither a packaged model nor a directory"):
            find_model(name, "torch")
    assert find_model(tmp_path, "torch") == tmp_path
    assert find_model(f"{tmp_path}/", "torch") == tmp_path
    assert "mmllm-base" in packaged_models()
