"""The compose file, the image and the workflows, judged by the tools that read them."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deployment.deployment_files import COMPOSE, DEPLOYMENT, alerts, compose, judged, tool
from tests.source_tree import PACKAGES, ROOT, repository_files

DOCKERFILE = DEPLOYMENT / "Dockerfile.production"
EXAMPLE = DEPLOYMENT / ".env.production.example"
REQUIREMENTS = DEPLOYMENT / "requirements-serve.txt"
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
OPERATIONS = ROOT / "docs/operations.md"
SCRIPTS = sorted(DEPLOYMENT.rglob("*.sh"))
OURS = ("mobile-multimodal-api", "keys")


def example() -> dict[str, str]:
    lines = [line for line in EXAMPLE.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def pinned() -> dict[str, str]:
    lines = [line for line in REQUIREMENTS.read_text("utf-8").splitlines() if not line.startswith("#")]
    return dict(line.split("==") for line in lines)


def test_the_compose_file_is_valid() -> None:
    judged([tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", COMPOSE])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_are_valid(path: Path) -> None:
    judged([tool("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", path])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_pin_actions_and_ask_for_little(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text("utf-8"))
    assert workflow["permissions"] == {}
    for job in workflow["jobs"].values():
        assert set(job["permissions"].items()) <= {("contents", "read"), ("packages", "write")}
        for step in job["steps"]:
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step.get("uses", f"a@{'0' * 40}")), step
            # What a stranger can name is never pasted into a script.
            assert "${{" not in step.get("run", ""), step


def test_nothing_is_deployed_before_the_gate_and_the_scan() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/deploy.yml").read_text("utf-8"))["jobs"]
    assert (jobs["image"]["needs"], jobs["deploy"]["needs"]) == ("gate", "image")
    assert any("mmllm quality-gate" in step.get("run", "") for step in jobs["gate"]["steps"])
    names = [step.get("name") for step in jobs["image"]["steps"]]
    assert names.index("Try") < names.index("Scan") < names.index("Push")


def test_the_image_is_well_built() -> None:
    judged([tool("hadolint"), DOCKERFILE])


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_plain_shell(path: Path) -> None:
    judged(["sh", "-n", path])
    assert path.stat().st_mode & 0o111
    judged([tool("shellcheck"), "--shell", "sh", path])


def test_the_image_copies_every_package() -> None:
    text = DOCKERFILE.read_text("utf-8")
    copied = set(re.findall(r"^COPY (\w+) \1$", text, re.MULTILINE))
    assert set(PACKAGES) <= copied
    kept = (DEPLOYMENT / "Dockerfile.production.dockerignore").read_text("utf-8").splitlines()
    assert {f"!{name}" for name in copied} <= set(kept)


def test_the_image_holds_the_extra_serve_at_one_version_each_and_no_torch() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    todo = [Requirement(text) for text in project["dependencies"] + project["optional-dependencies"]["serve"]]
    versions, closure, seen = pinned(), set(), set()
    while todo:
        wanted = todo.pop()
        name = canonicalize_name(wanted.name)
        if str(wanted) in seen:
            continue
        seen.add(str(wanted))
        assert name in versions, f"{wanted} is not in {REQUIREMENTS.name}"
        assert wanted.specifier.contains(versions[name]), f"{name}=={versions[name]} is not {wanted}"
        closure.add(name)
        try:
            requires = importlib.metadata.requires(wanted.name) or []
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"{wanted.name} is not installed: install the extra serve")
        for text in requires:
            found = Requirement(text)
            extras = {"", *wanted.extras}
            if found.marker is None or any(found.marker.evaluate({"extra": extra}) for extra in extras):
                todo.append(found)
    assert set(versions) == closure
    assert not closure & {"torch", "onnx", "tensorflow", "coremltools", "pytest"}


def test_images_have_versions() -> None:
    images = [service["image"] for service in compose()["services"].values()]
    for image in {*images, *re.findall(r"^FROM (\S+)", DOCKERFILE.read_text("utf-8"), re.MULTILINE)}:
        assert re.search(r":v?[\d.]+|^\$\{MMLLM_IMAGE", image), image
        assert "latest" not in image


def test_the_compose_file_has_what_the_guide_names() -> None:
    services = compose()["services"]
    asked = {"mobile-multimodal-api", "redis", "nginx", "prometheus", "alertmanager", "grafana"}
    assert asked <= services.keys()
    api = services["mobile-multimodal-api"]
    # Either would forbid --scale mobile-multimodal-api=3.
    assert not api.keys() & {"container_name", "ports"}
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        for port in service.get("ports", []):
            assert name == "nginx" or port.startswith("127.0.0.1:"), port
    assert "127.0.0.1:${LOCAL_PORT:-8080}:8080" in services["nginx"]["ports"]


def test_files_that_the_compose_file_mounts_are_there() -> None:
    mounts = [
        mount.split(":")[0]
        for service in compose()["services"].values()
        for mount in service.get("volumes", [])
        if mount.startswith("./")
    ]
    assert len(mounts) >= 8
    assert [path for path in mounts if not (DEPLOYMENT / path).exists()] == []


def test_every_variable_of_the_compose_file_is_in_the_example_and_none_else() -> None:
    used = set(re.findall(r"\$\{(\w+)", COMPOSE.read_text("utf-8")))
    assert used == set(example())
    required = set(re.findall(r"\$\{(\w+):\?", COMPOSE.read_text("utf-8")))
    assert {name for name in required if example()[name]} == set()


def test_the_service_understands_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pydantic_settings", reason="the extra serve is not installed")
    from serving.settings import ServiceSettings, load_settings

    environment = compose()["services"]["mobile-multimodal-api"]["environment"]
    known = {name.upper() for name in ServiceSettings.model_fields}
    # Nobody is let in without a key here.
    assert known - environment.keys() == {"ALLOW_ANONYMOUS"}
    assert environment.keys() <= known
    filled = {**example(), "REDIS_PASSWORD": "secret"}
    for name, text in environment.items():
        value = re.sub(r"\$\{(\w+)[^}]*\}", lambda found: filled[found[1]], text)
        monkeypatch.setenv(name, value)
    loaded = load_settings()
    assert loaded.redis_url == "redis://:secret@redis:6379/0"
    assert loaded.trusted_proxies == (example()["EDGE_SUBNET"],)


def test_defaults_are_those_of_the_service() -> None:
    pytest.importorskip("pydantic_settings", reason="the extra serve is not installed")
    from serving.settings import ServiceSettings

    environment = compose()["services"]["mobile-multimodal-api"]["environment"]
    fallbacks = {
        name: found[2]
        for name, text in environment.items()
        if (found := re.fullmatch(r"\$\{(\w+):-(.*)\}", text)) and found[2] and found[1] == name
    }
    assert len(fallbacks) >= 11
    for name, text in fallbacks.items():
        default = ServiceSettings.model_fields[name.lower()].default
        if default is not None:  # MODEL: none means the default one
            assert text == (
                str(default).lower()
                if isinstance(default, bool)
                else f"{default:g}"
                if isinstance(default, float)
                else str(default)
            ), name


def test_no_key_no_certificate_and_no_filled_settings_are_kept() -> None:
    secret = re.compile(
        r"\.(pem|key|crt|p12)$|(^|/)\.env(\.production)?$|api_keys\.json$|^deployment/secrets/[^.]"
    )
    assert [str(path) for path in repository_files() if secret.search(str(path))] == []
    ignored = ["nginx/ssl/private.key", "nginx/ssl/cert.pem", "secrets/metrics_api_key", ".env.production"]
    done = subprocess.run(
        ["git", "check-ignore", *(f"deployment/{path}" for path in ignored)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if "not a git repository" in done.stderr:
        pytest.skip("not a git checkout")
    assert len(done.stdout.splitlines()) == len(ignored)


def test_every_alert_is_explained() -> None:
    headings = set(re.findall(r"^#+ (Mmllm\w+)$", OPERATIONS.read_text("utf-8"), re.MULTILINE))
    assert headings == set(alerts())
    for name, alert in alerts().items():
        assert alert["annotations"]["runbook"] == f"docs/operations.md#{name.lower()}"


def test_the_guide_names_files_that_are_there() -> None:
    named = re.findall(r"deployment/[\w./-]+\w", OPERATIONS.read_text("utf-8"))
    local = {
        "deployment/.env.production",
        "deployment/secrets/metrics_api_key",
        "deployment/mobile-multimodal-llm",
        "deployment/models",
    }
    local |= {
        "deployment/secrets/alert_webhook_url",
        "deployment/nginx/ssl/private.key",
        "deployment/nginx/ssl/cert.pem",
    }
    assert len(named) >= 10
    assert [path for path in named if path not in local and not (ROOT / path).exists()] == []
