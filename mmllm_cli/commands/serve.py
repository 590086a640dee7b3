"""``mmllm serve``: the HTTP service."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from mmllm_cli.console import print_note

__all__ = ["serve"]


def serve(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[ARTIFACT]", help="A packaged model or an artifact's directory.  [env: MODEL]"
        ),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="The port to listen on.")] = 8080,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, max=64, help="Processes.  [env: MAX_WORKERS; default: 4]"),
    ] = None,
    allow_anonymous: Annotated[
        bool, typer.Option("--allow-anonymous", help="Serve clients without API keys in strict mode, too.")
    ] = False,
) -> int:
    """Serve captions, texts and answers over HTTP, set up by the environment (needs the serve extra)."""
    from mobile_multimodal.bundle import find_model, load_bundle
    from mobile_multimodal.errors import MissingExtraError

    for name, value in (
        ("MODEL", model),
        ("MAX_WORKERS", None if workers is None else str(workers)),
        ("ALLOW_ANONYMOUS", "true" if allow_anonymous else None),
    ):
        if value is not None:  # the workers are processes of their own, and read the environment
            os.environ[name] = value
    try:
        from serving.admission import check_settings
        from serving.logs import configure_logs
        from serving.server import serve as run
        from serving.settings import load_settings
    except ImportError as exc:
        raise MissingExtraError(exc.name or "fastapi", "serve") from exc
    settings = load_settings()
    check_settings(settings)
    configure_logs(settings.log_level, settings.log_file)
    load_bundle(find_model(settings.model, "onnxruntime"))  # a wrong name is said before any worker starts
    cores = os.cpu_count() or 1
    if settings.max_workers > cores:
        print_note(f"MAX_WORKERS={settings.max_workers} is more than the {cores} cores of this machine")
    print_note(f"http://{host}:{port} (Ctrl-C or SIGTERM stops it)")
    run(settings, host, port)
    return 0
