"""Every component of a bundle in a target's format, several at a time: converters take one core each."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from exporters.base import ExportOptions, Source
from exporters.targets import ExportTarget, find_target
from mobile_multimodal.backends.torch_backend import load_module
from mobile_multimodal.bundle import ModelBundle, load_bundle
from mobile_multimodal.component_specs import component_names
from mobile_multimodal.config import ModelConfig
from mobile_multimodal.errors import MmllmError
from mobile_multimodal.interrupts import interrupts_held
from mobile_multimodal.manifest import Component

__all__ = ["convert_components"]

Tell = Callable[[str, int, int], None]
PATIENCE_S = 10.0
"""How long a process that is to end may take over the step that it is at."""


def convert_components(
    bundle: ModelBundle,
    target: ExportTarget,
    config: ModelConfig,
    options: ExportOptions,
    folder: Path,
    *,
    jobs: int,
    tell: Tell,
) -> tuple[Component, ...]:
    """Write the components that ``config`` names into a folder; the result is in their order.

    ``jobs`` may be at work at once, each a process that loads the bundle from its directory and holds up to
    two GiB; a single one is this process.

    Raises:
        BundleError, UsageError: what a component's conversion raises.
        MmllmError: a process ended before its time.
    """
    names = component_names(config)
    if jobs > 1:
        return _in_processes(names, (bundle.directory, target.name, config, options, folder), jobs, tell)
    write = target.converter()
    networks = {name: load_module(bundle, name) for name in names}
    written = []
    for number, (name, network) in enumerate(networks.items()):
        tell(f"converting {name}", number, len(names))
        written.append(write(Source(bundle, name, network, config), options, folder))
    return tuple(written)


def _in_processes(
    names: Sequence[str], given: tuple[Any, ...], jobs: int, tell: Tell
) -> tuple[Component, ...]:
    """Convert in processes, to each of which :func:`_convert` is ``given`` the same but for its share."""
    context = multiprocessing.get_context("spawn")
    written: dict[str, Component] = {}
    busy: dict[Connection, Any] = {}
    tell("converting", 0, len(names))
    try:
        # A share for each process: a converter takes seconds to import.
        for share in [names[first::jobs] for first in range(min(jobs, len(names)))]:
            ours, theirs = context.Pipe(duplex=False)
            busy[ours] = context.Process(target=_convert, args=(theirs, share, *given), daemon=True)
            with interrupts_held():
                busy[ours].start()
            theirs.close()
        while busy:
            for connection in [c for c in wait(list(busy)) if isinstance(c, Connection)]:
                component = _answer(connection, busy[connection])
                if component is None:
                    busy.pop(connection).join()
                else:
                    written[component.name] = component
                    tell(f"converted {component.name}", len(written), len(names))
    finally:
        _end([process for process in busy.values() if process.pid is not None])
    return tuple(written[name] for name in names)


def _end(processes: Sequence[Any]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(PATIENCE_S)
        if process.is_alive():
            process.kill()
            process.join()


def _answer(connection: Connection, process: Any) -> Component | None:
    """The next component that a process has written; None when it is done with its share."""
    try:
        answer = connection.recv()
    except EOFError:
        process.join()
        raise MmllmError(
            f"a process that converts ended before its time (exit code {process.exitcode})",
            remedy="try --jobs 1",
        ) from None
    if isinstance(answer, MmllmError):
        raise answer
    assert answer is None or isinstance(answer, Component)
    return answer


def _convert(
    connection: Connection,
    names: Sequence[str],
    directory: Path,
    target: str,
    config: ModelConfig,
    options: ExportOptions,
    folder: Path,
) -> None:
    """What a process does: convert its share, and send what it wrote, or which error of ours it met."""
    # Ended so it still gives back the system's semaphores, of which Python would warn on the terminal.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    tempfile.tempdir = str(folder.parent)  # the caller's, which it removes even if this process is ended
    with contextlib.suppress(OSError):  # nobody waits for it any more
        try:
            write, bundle = find_target(target).converter(), load_bundle(directory)
            for name in names:
                connection.send(
                    write(Source(bundle, name, load_module(bundle, name), config), options, folder)
                )
            connection.send(None)
        except MmllmError as exc:  # it is raised again at the other end
            connection.send(exc)
