"""The plot of the noise: every weight a point, where it belongs, in its colour and shape."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

from mmllm_cli.quantize_plot import check_plot, draw_sqnr, place_points
from mobile_multimodal.errors import InconclusiveError, UsageError
from mobile_multimodal.quantized_tensor import BITS
from quantization.report import QuantizationReport, TensorReport


def report_of(*rows: tuple[str, int, float | None]) -> QuantizationReport:
    """A report of weights given by component, bits and SQNR."""
    tensors = tuple(
        TensorReport(component, f"weight_{number}", "linear", 64, bits, "mse_clip", 128, 64, noise)
        for number, (component, bits, noise) in enumerate(rows)
    )
    return QuantizationReport("some_recipe", "0" * 64, tensors, ())


REPORT = report_of(
    ("vision_encoder", 8, 41.5),
    ("vision_encoder", 32, None),
    ("vision_encoder", 8, 39.0),
    ("text_decoder", 4, 18.25),
    ("text_decoder", 2, -1.5),
)


def test_every_weight_with_noise_has_its_point() -> None:
    plot = place_points(REPORT)
    assert len(plot.points) == 4
    columns = [point.x for point in plot.points]
    assert columns == sorted(set(columns))
    assert np.allclose(np.diff(columns), columns[1] - columns[0])
    # Heights are linear in dB, and the grid says the same as the points.
    values = np.array([41.5, 39.0, 18.25, -1.5])
    low, high = min(plot.db_lines), max(plot.db_lines)
    assert low <= -1.5
    assert high >= 41.5
    scale = (plot.db_lines[high] - plot.db_lines[low]) / (high - low)
    assert scale < 0
    expected = plot.db_lines[low] + scale * (values - low)
    assert np.allclose([point.y for point in plot.points], expected)
    assert plot.number_lines[1] == columns[0]
    assert plot.number_lines[4] == columns[3]


def test_colours_are_components_and_shapes_are_bits() -> None:
    plot = place_points(REPORT)
    first, second, third, fourth = plot.points
    assert list(plot.colors) == ["vision_encoder", "text_decoder"]
    assert first.color == second.color == plot.colors["vision_encoder"]
    assert third.color == fourth.color == plot.colors["text_decoder"] != first.color
    assert (first.sides, third.sides, fourth.sides) == (plot.markers[8], plot.markers[4], plot.markers[2])
    assert len(set(plot.markers.values())) == 3
    every = place_points(report_of(*(("vision_encoder", bits, 10.0) for bits in BITS)))
    assert set(every.markers) == set(BITS)


def test_the_picture_shows_what_was_placed() -> None:
    data = draw_sqnr(REPORT)
    picture = Image.open(io.BytesIO(data))
    assert picture.format == "PNG"
    pixels = np.asarray(picture.convert("RGB"))
    plot = place_points(REPORT)
    for point in plot.points:
        assert tuple(pixels[round(point.y), round(point.x)]) == ImageColor.getrgb(point.color)
    # Nothing but points has their colours, apart from one mark of the legend for each component.
    below = pixels[min(round(point.y) for point in plot.points) - 10 :]
    for name, count in {"vision_encoder": 2, "text_decoder": 2}.items():
        is_colored = (below == ImageColor.getrgb(plot.colors[name])).all(axis=2)
        assert 30 * count < is_colored.sum() < 100 * count, name
    assert draw_sqnr(REPORT) == data
    assert draw_sqnr(report_of(("vision_encoder", 8, 41.5), ("text_decoder", 8, 18.0))) != data


def test_one_weight_and_very_many_can_be_drawn() -> None:
    one = place_points(report_of(("vision_encoder", 8, 40.0)))
    assert list(one.number_lines) == [1]
    assert len(one.db_lines) >= 2
    many = place_points(report_of(*[("vision_encoder", 8, 30.0 + number / 90) for number in range(1234)]))
    assert list(many.number_lines) == [1, 200, 400, 600, 800, 1000, 1200]
    assert 4 <= len(many.db_lines) <= 12
    width, height = Image.open(io.BytesIO(draw_sqnr(REPORT))).size
    assert all(0 < point.x < width and 0 < point.y < height for point in many.points)


def test_no_noise_is_no_plot() -> None:
    with pytest.raises(InconclusiveError, match="no SQNR to plot"):
        draw_sqnr(report_of(("vision_encoder", 32, None)))


def test_names_and_places_that_cannot_be_written(tmp_path: Path) -> None:
    check_plot(tmp_path / "noise.PNG")
    with pytest.raises(UsageError, match=r"noise\.svg: a plot is a PNG file"):
        check_plot(tmp_path / "noise.svg")
    with pytest.raises(UsageError, match="does not exist"):
        check_plot(tmp_path / "missing" / "noise.png")
