"""Worker processes that listen on one port until they are told to stop, and then answer who has connected."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path

import uvicorn
from uvicorn.supervisors import multiprocess

from serving.http_protocol import TimelyProtocol
from serving.places import PLACES_FILE
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
    with tempfile.TemporaryDirectory(prefix="mmllm-workers-") as folder:
        if settings.max_workers > 1 and sys.platform != "win32":
            os.environ[PLACES_FILE] = str(Path(folder, "places"))
        if settings.max_workers > 1 and settings.monitoring_enabled:
            os.environ.setdefault(FOLDER, folder)
        config = uvicorn.Config(
            "serving.app:application",
            factory=True,
            host=host,
            port=port,
            workers=settings.max_workers,
            loop="auto",
            http=TimelyProtocol,
            ws="none",
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=IDLE_S,
            timeout_graceful_shutdown=GRACE_S,
        )
        listener = config.bind_socket()
        try:
            if settings.max_workers > 1:
                _Supervisor(config, [listener]).run()
            else:
                _Server(config).run([listener])
        except KeyboardInterrupt:
            return


class _Server(uvicorn.Server):
    """A worker that closes its listening socket only when nobody is waiting there.

    To close it resets whoever has connected and was not yet accepted; a proxy has sent a request by then,
    and may not send it again.
    """

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        waiting = [connection for listener in sockets or () for connection in _accepted(listener)]
        # Nothing may come in between here and the closing, which is the first thing that is done.
        taken = [asyncio.ensure_future(self._take(connection)) for connection in waiting]
        await super().shutdown(sockets)
        await asyncio.gather(*taken)

    async def _take(self, connection: socket.socket) -> None:
        def made() -> TimelyProtocol:
            return TimelyProtocol(self.config, self.server_state, self.lifespan.state)

        connection.setblocking(False)
        _, protocol = await asyncio.get_running_loop().connect_accepted_socket(made, connection)
        protocol.shutdown()


def _accepted(listener: socket.socket) -> list[socket.socket]:
    """Every connection that waits to be accepted."""
    listener.setblocking(False)
    found = []
    while True:
        try:
            found.append(listener.accept()[0])
        except OSError:  # none, or none any more
            return found


class _Process(multiprocess.Process):
    @property
    def server(self) -> uvicorn.Server:
        if self._server is None:
            self._server = _Server(self.config)
        return self._server


class _Supervisor(multiprocess.Multiprocess):
    """uvicorn's supervisor of workers, which lets go of the listening socket before they do.

    Else it stays open until all of them have ended, and who connects meanwhile is never answered.
    """

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket]) -> None:
        super().__init__(config, sockets)
        multiprocess.Process = _Process  # type: ignore[misc]  # there is no setting for it

    def terminate_all(self) -> None:
        for listener in self.sockets:
            listener.close()
        super().terminate_all()
