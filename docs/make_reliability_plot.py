"""Draw docs/images/reliability.svg from what ``python -m training calibrate`` measured.

``python docs/make_reliability_plot.py runs/base/calibration.json``: for captions and answers, the share that
is right over the confidence, before and after calibration.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

SIDE, GAP, EDGE = 260, 90, 46
TITLES = {"caption": "Captions", "vqa": "Answers"}
STYLE = """text{font:12px system-ui,sans-serif;fill:#333}.axis{stroke:#999;fill:none}.ideal{stroke:#999;
stroke-dasharray:4 4}.before{fill:none;stroke:#c46a1c;stroke-width:1.6}.after{fill:#2563a8}
.line{fill:none;stroke:#2563a8;stroke-width:1.6}
@media(prefers-color-scheme:dark){text{fill:#ddd}.before{stroke:#f0a060}.after{fill:#7ab4f0}
.line{stroke:#7ab4f0}}"""


def panel(task: str, figures: dict[str, Any], left: float) -> list[str]:
    """One square: axes from 0 to 1, the ideal, and both lines."""

    def place(confidence: float, right: float) -> tuple[float, float]:
        return left + SIDE * confidence, EDGE + SIDE * (1 - right)

    parts = [f'<rect class="axis" x="{left}" y="{EDGE}" width="{SIDE}" height="{SIDE}"/>']
    parts.append(f'<line class="ideal" x1="{left}" y1="{EDGE + SIDE}" x2="{left + SIDE}" y2="{EDGE}"/>')
    before, after = (figures[when]["expected_calibration_error"] for when in ("before", "after"))
    title = f"{TITLES[task]}, {figures['results']:,}: error {before:.3f} → {after:.3f}"
    parts.append(f'<text x="{left}" y="{EDGE - 16}">{title}</text>')
    for tick in (0, 0.5, 1):
        x, y = place(tick, tick)
        parts.append(f'<text x="{x}" y="{EDGE + SIDE + 18}" text-anchor="middle">{tick:g}</text>')
        parts.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{tick:g}</text>')
    middle = left + SIDE / 2
    parts.append(f'<text x="{middle}" y="{EDGE + SIDE + 36}" text-anchor="middle">confidence</text>')
    for when, line in (("before", "before"), ("after", "line")):
        bins = figures[when]["bins"]
        points = [place(part["confidence"], part["right"]) for part in bins]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline class="{line}" points="{path}"/>')
        parts += [f'<circle class="{when}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>' for x, y in points]
    return parts


def draw(report: dict[str, Any]) -> str:
    """The picture of all tasks, side by side."""
    tasks = [task for task in TITLES if task in report]
    width, height = 2 * EDGE + len(tasks) * SIDE + (len(tasks) - 1) * GAP, 2 * EDGE + SIDE + 24
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img">',
        "<title>Share of right results over confidence, before (open dots) and after calibration</title>",
        f"<style>{STYLE}</style>",
    ]
    for number, task in enumerate(tasks):
        parts += panel(task, report[task], EDGE + number * (SIDE + GAP))
    key = EDGE + SIDE + 58
    parts.append(f'<circle class="before" cx="{EDGE}" cy="{key - 4}" r="4"/>')
    parts.append(f'<text x="{EDGE + 10}" y="{key}">before</text>')
    parts.append(f'<circle class="after" cx="{EDGE + 70}" cy="{key - 4}" r="4"/>')
    parts.append(
        f'<text x="{EDGE + 80}" y="{key}">after; share that is right, ten groups of equal size</text>'
    )
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    """Read the measurement, write the picture."""
    report = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    output = Path(__file__).parent / "images" / "reliability.svg"
    output.write_text(draw(report), encoding="utf-8")
    print(output)


if __name__ == "__main__":
    main()
