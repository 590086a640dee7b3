"""Evaluation on a small data set on disk, with a model that really looks at the pixels it is given."""

from __future__ import annotations

import io
import json
import math
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.evaluate import EvaluationReport, evaluate
from benchmarks.quality import bleu, cider_d, tokenize
from mobile_multimodal.backends import Array
from mobile_multimodal.config import ModelConfig, OcrConfig
from mobile_multimodal.errors import DataError, UsageError
from mobile_multimodal.image import LoadedImage
from mobile_multimodal.results import GenerationConfig, TaskRequest, TaskResult, TextRegion

COLORS = {
    "red": (220, 20, 20),
    "green": (20, 200, 20),
    "blue": (20, 20, 220),
    "yellow": (230, 220, 20),
}
CAPTIONS = {
    "red": "a red car on a street",
    "green": "two people sit in the green grass",
    "blue": "a boat on the blue sea",
    "yellow": "a yellow banana lies on a table",
    "grey": "a grey picture",
}


class ColorModel:
    """Names the colour of a picture's first pixel; reads text that was painted into its first row."""

    name = "color-model"
    recipe = "float32"
    sha256 = "0" * 64

    def __init__(self) -> None:
        self.batches: list[tuple[int, int]] = []

    def run(
        self,
        images: Sequence[LoadedImage],
        requests: Sequence[TaskRequest],
        generation: GenerationConfig | None = None,
    ) -> list[list[TaskResult]]:
        self.batches.append((len(images), len(requests)))
        return [[self._answer(image.pixels, request) for request in requests] for image in images]

    def _answer(self, pixels: np.ndarray[Any, np.dtype[np.uint8]], request: TaskRequest) -> TaskResult:
        if request.task == "ocr":
            regions = painted_text(pixels)
            text = "\n".join(region.text for region in regions)
            return TaskResult("ocr", text, 0.9, regions=regions)
        first = pixels[0, 0].astype(int)
        distances = {name: int(abs(first - color).sum()) for name, color in COLORS.items()}
        color = min(distances, key=lambda name: distances[name])
        if distances[color] > 60:
            color = "grey"
        if request.task == "caption":
            return TaskResult("caption", CAPTIONS[color].capitalize() + ".", 0.5)
        assert request.question is not None
        if request.question.startswith("How many"):
            return TaskResult("vqa", "2", 0.5, question=request.question)
        return TaskResult("vqa", color, 0.5, question=request.question)


def paint_text(regions: list[tuple[list[int], str]], size: tuple[int, int]) -> bytes:
    """A picture that carries its text: JSON bytes, length first, in the pixels."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    payload = json.dumps(regions).encode()
    payload = len(payload).to_bytes(4, "big") + payload
    pixels.reshape(-1)[: len(payload)] = np.frombuffer(payload, np.uint8)
    return png(pixels)


def painted_text(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> tuple[TextRegion, ...]:
    stream = pixels.tobytes()
    regions = json.loads(stream[4 : 4 + int.from_bytes(stream[:4], "big")])
    return tuple(
        TextRegion(text, ((q[0], q[1]), (q[2], q[3]), (q[4], q[5]), (q[6], q[7])), 0.9) for q, text in regions
    )


def png(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def plain(color: str) -> bytes:
    return png(np.full((8, 8, 3), COLORS[color], np.uint8))


def write_tar(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def quad(left: int, top: int, right: int, bottom: int) -> list[int]:
    return [left, top, right, top, right, bottom, left, bottom]


CAPTION_ROWS = [
    {"image": "coco/1.png", "captions": ["A red car.", "A car on a street."], "source": "coco:x"},
    {"image": "coco/2.png", "captions": ["People sit in the grass."], "source": "coco:y"},
    {"image": "coco/3.png", "captions": ["A dog runs.", "The dog is running fast."], "source": "coco:x"},
    {"image": "flickr8k/1.png", "captions": ["A boat on the sea.", "A blue boat."], "source": "flickr8k:z"},
    {"image": "flickr8k/2.png", "captions": ["A yellow banana on a table."], "source": "flickr8k:z"},
]
IMAGE_COLORS = ["red", "green", "red", "blue", "yellow"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with five photos: three in one tar file, one in another, one as a plain file."""
    files = {
        row["image"]: plain(color)
        for row, color in zip(CAPTION_ROWS, IMAGE_COLORS, strict=True)
        if isinstance(row["image"], str)
    }
    (tmp_path / "flickr8k").mkdir()
    (tmp_path / "flickr8k/2.png").write_bytes(files.pop("flickr8k/2.png"))
    write_tar(tmp_path / "b.tar", {"flickr8k/1.png": files.pop("flickr8k/1.png")})
    write_tar(tmp_path / "a.tar", {f"./{name}": content for name, content in files.items()})
    return tmp_path


def test_captions_are_scored_by_source_as_the_metrics_score_them(data: Path) -> None:
    path = write_jsonl(data / "val.jsonl", CAPTION_ROWS)
    seen: list[tuple[int, int]] = []
    report = evaluate(ColorModel(), path, "caption", progress=lambda done, total: seen.append((done, total)))

    hypotheses = [tokenize(CAPTIONS[color]) for color in IMAGE_COLORS]
    references = [[tokenize(caption) for caption in row["captions"]] for row in CAPTION_ROWS]
    for group, part in ("all", slice(None)), ("COCO", slice(3)), ("Flickr8k", slice(3, 5)):
        expected = cider_d(hypotheses[part], references[part])
        figure = report.figure("cider_d", group)
        assert figure.value == pytest.approx(expected)
        assert figure.low is not None
        assert figure.high is not None
        assert figure.low <= figure.value <= figure.high
        assert report.figure("bleu_4", group).value == pytest.approx(bleu(hypotheses[part], references[part]))
        assert figure.samples == len(hypotheses[part])
    assert report.figure("cider_d").value > 0
    assert report.figure("mean_caption_tokens").value == pytest.approx(sum(map(len, hypotheses)) / 5)
    assert report.figure("distinct_captions_percent").value == pytest.approx(80.0)
    assert seen == [(5, 5)]
    assert [row["caption"] for row in report.rows][:2] == [
        "A red car on a street.",
        "Two people sit in the green grass.",
    ]
    assert report.images == 5
    assert report.data == "val.jsonl"


def test_a_report_is_plain_json_with_finite_numbers(data: Path) -> None:
    report = evaluate(ColorModel(), write_jsonl(data / "val.jsonl", CAPTION_ROWS), "caption")
    document = json.loads(json.dumps(report.to_json(rows=True), allow_nan=False))
    assert document["schema_version"] == 1
    assert document["model"] == "color-model"
    assert len(document["rows"]) == 5
    assert "rows" not in report.to_json()
    with pytest.raises(KeyError, match="there are cider_d/all/model"):
        report.figure("cider_d", "Nowhere")


QUESTION_ROWS: list[dict[str, Any]] = [
    {
        "image": "coco/1.png",
        "question": "What color is the car?",
        "answer": "red",
        "answers": ["red"] * 7 + ["dark red"] * 3,
        "type": "other",
        "source": "VQA v2 subset",
    },
    {
        "image": "coco/1.png",
        "question": "How many cars?",
        "answer": "1",
        "answers": ["1"] * 8 + ["2", "two"],
        "type": "number",
        "source": "VQA v2 subset",
    },
    {
        "image": "coco/2.png",
        "question": "What color is it?",
        "answer": "Green",
        "answers": [],
        "type": "other",
        "source": "VQA v2 subset",
    },
    {
        "image": "coco/3.png",
        "question": "What is the color of the car?",
        "answer": "red",
        "type": "color",
        "source": "COCO-QA",
    },
    {
        "image": "flickr8k/1.png",
        "question": "What is the color of the sea?",
        "answer": "blue",
        "type": "color",
        "source": "COCO-QA",
    },
    {
        "image": "flickr8k/2.png",
        "question": "How many bananas?",
        "answer": "two",
        "type": "number",
        "source": "COCO-QA",
    },
]


def values(report: EvaluationReport, metric: str, group: str) -> list[float]:
    systems = ("model", "most common answer", "blank image")
    return [round(report.figure(metric, group, system).value, 4) for system in systems]


def test_answers_are_scored_beside_both_baselines(data: Path) -> None:
    path = write_jsonl(data / "vqa.jsonl", QUESTION_ROWS)
    train = write_jsonl(
        data / "train.jsonl",
        [
            {"image": "x", "question": "?", "answer": answer, "type": kind, "source": source}
            for answer, kind, source in [
                ("blue", "color", "COCO-QA"),
                ("blue", "color", "COCO-QA"),
                ("red", "color", "COCO-QA"),
                ("3", "number", "COCO-QA"),
                ("two", "number", "VQA v2"),
                ("red", "other", "VQA v2"),
            ]
        ],
    )
    model = ColorModel()
    seen: list[tuple[int, int]] = []
    report = evaluate(
        model, path, "vqa", train_data=train, progress=lambda done, total: seen.append((done, total))
    )
    # Two of ten people say two: 2/3 of full credit; seven say red: full credit.
    assert values(report, "vqa_accuracy_percent", "human") == [83.3333, 83.3333, 33.3333]
    assert values(report, "vqa_accuracy_percent", "human: number") == [66.6667, 66.6667, 66.6667]
    assert values(report, "exact_match_percent", "human, one answer") == [100.0, 0.0, 0.0]
    assert values(report, "exact_match_percent", "COCO-QA: color") == [100.0, 50.0, 0.0]
    assert values(report, "exact_match_percent", "COCO-QA: number") == [100.0, 0.0, 100.0]
    assert values(report, "exact_match_percent", "all") == [83.3333, 33.3333, 16.6667]
    assert report.figure("gain_points", "COCO-QA: color").value == pytest.approx(100.0)
    assert report.figure("gain_points", "COCO-QA: number").value == pytest.approx(0.0)
    assert report.figure("vqa_accuracy_percent", "human").samples == 2
    assert any("the training file" in note for note in report.notes)
    # Each of the five photos once, then the blank picture.
    assert model.batches == [(1, 2), (1, 1), (1, 1), (1, 1), (1, 1), (1, 6)]
    assert seen[-1] == (12, 12)
    assert report.images == 5


def test_without_training_data_the_report_says_where_common_answers_come_from(data: Path) -> None:
    report = evaluate(ColorModel(), write_jsonl(data / "vqa.jsonl", QUESTION_ROWS), "vqa")
    assert any("the evaluated questions themselves" in note for note in report.notes)
    assert report.figure("exact_match_percent", "COCO-QA: number", "most common answer").value == 100.0


PAGE_BOXES = [
    {"quad": quad(10, 10, 110, 30), "text": "TAX INVOICE", "legible": True},
    {"quad": quad(200, 12, 260, 32), "text": "9.00", "legible": True},
    {"quad": quad(10, 50, 60, 70), "text": "Total", "legible": True},
    {"quad": quad(300, 300, 360, 320), "text": "###", "legible": False},
]


def ocr_files() -> dict[str, bytes]:
    words = [
        {"image": "words/1.png", "text": "EXIT", "source": "icdar15"},
        {"image": "words/2.png", "text": "stop", "source": "iiit5k"},
    ]
    pages = [{"image": "docs/1.png", "source": "sroie", "w": 400, "h": 400, "boxes": PAGE_BOXES}]
    return {
        "set/words.jsonl": "\n".join(map(json.dumps, words)).encode(),
        "set/docs.jsonl": "\n".join(map(json.dumps, pages)).encode(),
        "set/words/1.png": paint_text([(quad(0, 0, 9, 9), "exit")], (64, 16)),
        "set/words/2.png": paint_text([(quad(0, 0, 9, 9), "stap")], (64, 16)),
        "set/docs/1.png": paint_text(
            [
                (quad(10, 10, 110, 30), "Tax invoice"),
                (quad(200, 12, 260, 32), "9.80"),
                (quad(110, 50, 160, 70), "Total"),
                (quad(301, 301, 359, 319), "blurred"),
            ],
            (400, 400),
        ),
    }


@pytest.mark.parametrize("form", ["tar", "folder", "jsonl"])
def test_words_and_pages_are_read_from_a_tar_file_or_a_folder(tmp_path: Path, form: str) -> None:
    files = ocr_files()
    if form == "tar":
        path = tmp_path / "ocr.tar"
        write_tar(path, files)
    else:
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(content)
        path = tmp_path / "set" if form == "folder" else tmp_path / "set/docs.jsonl"
    report = evaluate(ColorModel(), path, "ocr")

    # The one wrong digit is all that differs in "tax invoice 9.00 total"; the illegible box is not judged.
    assert report.figure("cer_ignoring_case_percent", "pages").value == pytest.approx(100 * 1 / 22)
    assert report.figure("word_recall_percent", "pages: sroie").value == pytest.approx(75.0)
    # "Total" was read, but in another place.
    assert report.figure("end_to_end_recall_percent", "pages").value == pytest.approx(100 / 3)
    if form == "jsonl":
        assert report.images == 1
        return
    assert report.images == 3
    assert report.figure("cer_percent", "words").value == pytest.approx(100 * 5 / 8)
    assert report.figure("cer_ignoring_case_percent", "words").value == pytest.approx(100 * 1 / 8)
    assert report.figure("word_accuracy_percent", "words").value == 0.0
    assert report.figure("word_accuracy_ignoring_case_percent", "words").value == 50.0
    assert report.figure("word_accuracy_ignoring_case_percent", "words: icdar15").value == 100.0


class LineBackend:
    """A recognizer that sees "ab" in a bright line and "b" in a dark one."""

    name = "lines"
    components = ("text_recognizer",)

    def run(self, component: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        assert component == "text_recognizer"
        pixels = inputs["pixel_values"]
        probability = np.zeros((len(pixels), 5, 3), np.float32)
        for index, line in enumerate(np.asarray(pixels, np.float32)):
            classes = [0, 1, 0, 2, 0] if line[:, :20].mean() > 127 else [0, 0, 2, 2, 0]
            probability[index, range(5), classes] = 1.0
        return {"probability": probability}


class ReadingModel(ColorModel):
    """Detects no text at all, but can recognize a line."""

    backend = LineBackend()
    config = ModelConfig(ocr=OcrConfig(characters="ab"))

    def _answer(self, pixels: np.ndarray[Any, np.dtype[np.uint8]], request: TaskRequest) -> TaskResult:
        return TaskResult("ocr", "", None, regions=())


def test_the_recognizer_is_also_measured_without_the_detector(tmp_path: Path) -> None:
    for name, level in ("1.png", 250), ("2.png", 5), ("3.png", 5):
        (tmp_path / name).write_bytes(png(np.full((48, 160, 3), level, np.uint8)))
    texts = {"1.png": "ab", "2.png": "B", "3.png": "xyz"}
    path = write_jsonl(
        tmp_path / "words.jsonl", [{"image": name, "text": text} for name, text in texts.items()]
    )
    seen: list[tuple[int, int]] = []
    report = evaluate(ReadingModel(), path, "ocr", progress=lambda done, total: seen.append((done, total)))
    assert report.figure("cer_percent", "words").value == 100.0
    alone = "recognizer alone"
    assert report.figure("cer_percent", "words", alone).value == pytest.approx(100 * 4 / 6)
    assert report.figure("word_accuracy_percent", "words", alone).value == pytest.approx(100 / 3)
    assert report.figure("word_accuracy_ignoring_case_percent", "words", alone).value == pytest.approx(
        200 / 3
    )
    assert seen == [(3, 6), (4, 6), (5, 6), (6, 6)]
    assert report.rows[0]["recognizer alone text"] == "ab"


def test_limit_takes_rows_from_the_whole_file(data: Path) -> None:
    path = write_jsonl(data / "val.jsonl", CAPTION_ROWS)
    report = evaluate(ColorModel(), path, "caption", limit=2)
    assert [row["image"] for row in report.rows] == ["coco/1.png", "coco/3.png"]
    report = evaluate(ColorModel(), path, "caption", limit=3)
    assert {row["source"] for row in report.rows} == {"COCO", "Flickr8k"}
    assert any(note.startswith("Flickr8k: one picture only") for note in report.notes)


def test_pictures_may_lie_in_another_folder(data: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = write_jsonl(tmp_path_factory.mktemp("rows") / "val.jsonl", CAPTION_ROWS)
    with pytest.raises(DataError, match=r"val\.jsonl:1: coco/1\.png is neither"):
        evaluate(ColorModel(), elsewhere, "caption")
    assert evaluate(ColorModel(), elsewhere, "caption", images=data).images == 5


GOOD_CAPTION = json.dumps(CAPTION_ROWS[0])
GOOD_QUESTION = json.dumps(QUESTION_ROWS[3])


@pytest.mark.parametrize(
    ("task", "lines", "message"),
    [
        ("caption", [], "no rows"),
        ("caption", [GOOD_CAPTION, "{"], ":2: not JSON"),
        ("caption", [GOOD_CAPTION, "", "[1]"], ":3: not a JSON object"),
        ("caption", ['{"image": "coco/1.png"}'], ":1: 'captions' is missing"),
        ("caption", ['{"image": "coco/1.png", "captions": "A dog."}'], "'captions' is a str, not a list"),
        ("caption", ['{"image": "coco/1.png", "captions": []}'], ":1: 'captions' has none"),
        ("caption", ['{"image": "coco/1.png", "captions": ["!"]}'], "without a word"),
        ("caption", ['{"image": "coco/1.png", "captions": [3]}'], "holds 3, not a text"),
        ("caption", ['{"image": "../1.png", "captions": ["A dog."]}'], ":1: ../1.png is neither"),
        ("caption", [GOOD_CAPTION], "at least two pictures"),
        ("vqa", [GOOD_QUESTION.replace('"red"', '" "')], ":1: 'answer' is empty"),
        ("vqa", [GOOD_QUESTION.replace("What is", "What " * 99)], ":1: the question has"),
        ("ocr", ['{"image": "coco/1.png", "text": ""}'], ":1: 'text' is empty"),
        (
            "ocr",
            ['{"image": "coco/1.png", "boxes": [{"quad": [1, 2], "text": "a"}]}'],
            "not 8 finite numbers",
        ),
        ("ocr", ['{"image": "coco/1.png", "boxes": []}'], ":1: no legible text"),
    ],
)
def test_bad_rows_are_named_by_file_and_line(data: Path, task: str, lines: list[str], message: str) -> None:
    path = data / "rows.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        evaluate(ColorModel(), path, task)
    assert message in str(caught.value)
    assert "rows.jsonl" in str(caught.value) or "at least two" in message


def test_files_that_are_missing_damaged_or_of_another_kind(data: Path, tmp_path: Path) -> None:
    model = ColorModel()
    with pytest.raises(DataError, match=r"none\.jsonl: No such file"):
        evaluate(model, data / "none.jsonl", "caption")
    (data / "latin.jsonl").write_bytes(b'{"image": "caf\xe9"}')
    with pytest.raises(DataError, match=r"latin\.jsonl: not UTF-8"):
        evaluate(model, data / "latin.jsonl", "caption")
    (data / "broken.png").write_bytes(plain("red")[:40])
    rows = [{"image": "broken.png", "captions": ["A dog."]}, {"image": "coco/1.png", "captions": ["A dog."]}]
    with pytest.raises(DataError, match=r"broken\.jsonl:1: "):
        evaluate(model, write_jsonl(data / "broken.jsonl", rows), "caption")
    (data / "c.tar").write_bytes(b"not a tar file" * 100)
    with pytest.raises(DataError, match=r"c\.tar: not a plain tar file"):
        evaluate(model, write_jsonl(data / "val.jsonl", CAPTION_ROWS), "caption")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds neither words\.jsonl nor docs\.jsonl"):
        evaluate(model, tmp_path / "empty", "ocr")
    with pytest.raises(DataError, match="no such folder"):
        evaluate(model, tmp_path / "nowhere", "ocr")


def test_arguments_that_can_never_work(data: Path) -> None:
    path = write_jsonl(data / "val.jsonl", CAPTION_ROWS)
    with pytest.raises(UsageError, match="unknown task 'captions'"):
        evaluate(ColorModel(), path, "captions")
    with pytest.raises(UsageError, match="takes no training data"):
        evaluate(ColorModel(), path, "caption", train_data=path)
    with pytest.raises(UsageError, match="limit 0 is below 1"):
        evaluate(ColorModel(), path, "caption", limit=0)


def test_a_figure_that_is_no_number_never_passes() -> None:
    from benchmarks.evaluate import Figure

    with pytest.raises(ValueError, match="not a finite number"):
        Figure("cer_percent", "pages", "model", math.nan, None, None, 3)
    with pytest.raises(ValueError, match="no samples"):
        Figure("cer_percent", "pages", "model", 1.0, None, None, 0)
