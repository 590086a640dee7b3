"""The page to try the service on, in a real browser: a picture's caption, its lines, an answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mobile_multimodal import MobileMultiModalLLM
from tests.serving.headless_browser import HeadlessBrowser, needs_browser
from tests.serving.live_service import ROOT, LiveService

pytestmark = needs_browser
SIGN = ROOT / "examples/images/sign.jpg"
COUNT_GREEN = """
const canvas = document.getElementById('picture');
const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
let green = 0;
for (let i = 0; i < data.length; i += 4)
  if (data[i] === 34 && data[i + 1] === 170 && data[i + 2] === 119) green++;
return green;
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HeadlessBrowser]:
    with (
        LiveService("--workers", "1") as live,
        HeadlessBrowser(tmp_path_factory.mktemp("profile")) as browser,
    ):
        browser.open(f"http://127.0.0.1:{live.port}/")
        yield browser


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_picture_is_captioned_and_read_and_a_question_answered(page: HeadlessBrowser) -> None:
    model = MobileMultiModalLLM()
    page.type("file", str(SIGN))
    lines = [region.text for region in model.extract_text(SIGN)]
    assert lines
    wait_for(lambda: page.text("text") or page.text("problem"))
    assert page.text("problem") == ""
    assert page.text("caption").startswith(model.generate_caption(SIGN))
    assert all(line in page.text("text") for line in lines)
    wait_for(lambda: page.run(COUNT_GREEN) > 100)
    page.type("question", "what is this?\n")
    wait_for(lambda: page.text("answer"))
    assert page.text("answer").startswith(model.answer_question(SIGN, "what is this?"))


def test_what_is_no_picture_is_said_and_the_page_asks_nobody_else(
    page: HeadlessBrowser, tmp_path: Path
) -> None:
    (tmp_path / "note.jpg").write_text("not a picture")
    page.type("file", str(tmp_path / "note.jpg"))
    wait_for(lambda: page.text("problem"))
    assert [line for line in page.console() if "Content Security" in line] == []
