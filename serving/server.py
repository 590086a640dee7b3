"""Worker processes that listen on one port, until they are told to stop."""

from __future__ import annotations

import os
import signal
import tempfile

import uvicorn

from serving.settings import ServiceSettings

__all__ = ["serve"]

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
GRACE_S = 30
IDLE_S = 30


def serve(settings: ServiceSettings, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT: then finish what was begun, for at most half a minute.

    Workers read their settings from the environment, as this process did. One that dies is replaced.
    """
    # uvicorn finishes, puts back the handler that it found and raises the signal again: now to no effect.
    signal.signal(signal.SIGTERM, lambda *_: None)
    with tempfile.TemporaryDirectory(prefix="mmllm-metrics-") as folder:
        if settings.max_workers > 1 and settings.monitoring_enabled:
            os.environ.setdefault(FOLDER, folder)
        uvicorn.run(
            "serving.app:application",
            factory=True,
            host=host,
            port=port,
            workers=settings.max_workers,
            loop="auto",
            http="auto",
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=IDLE_S,
            timeout_graceful_shutdown=GRACE_S,
        )
