"""Draw docs/images/terminal.svg: real commands, run now, with what they really print.

    .venv/bin/python docs/make_terminal_picture.py

Run it again whenever the model or the output of a command changes.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

__all__ = ["draw", "run_command"]

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "docs" / "images" / "terminal.svg"
WIDTH = 96
COMMANDS = (
    "mmllm caption examples/images/cows.jpg",
    'mmllm vqa examples/images/cows.jpg "what color are the cows?"',
    "mmllm ocr examples/images/receipt.png",
    "mmllm caption examples/images/dog.jpg --json",
)


def run_command(command: str) -> str:
    """What a command prints, both streams in their order, with the colours of a terminal.

    Raises:
        subprocess.CalledProcessError: it did not exit 0; nothing is drawn of a failure.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return subprocess.run(
        shlex.split(command),
        cwd=ROOT,
        env={**os.environ, "PATH": path, "FORCE_COLOR": "1", "COLUMNS": str(WIDTH)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=True,
    ).stdout


def draw(sessions: list[tuple[str, str]], title: str = "mmllm") -> str:
    """Commands and their output as one SVG that loads nothing from elsewhere."""
    console = Console(
        record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    for command, output in sessions:
        console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
        console.print(Text.from_ansi(output.rstrip()))
        console.print()
    svg = console.export_svg(title=title)
    # Rich links a web font; a reader's own monospace font serves, offline too.
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)


def main() -> None:
    svg = draw([(command, run_command(command)) for command in COMMANDS])
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    temporary = OUTPUT.with_suffix(".tmp")
    temporary.write_text(svg, encoding="utf-8")
    os.replace(temporary, OUTPUT)
    print(OUTPUT.relative_to(ROOT))


if __name__ == "__main__":
    main()
