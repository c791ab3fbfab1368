"""Predicted against measured: what is drawn is what was compared."""

from __future__ import annotations

import json
import re
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from phonesearch.candidate.config import Candidate
from phonesearch.device.score import Case
from phonesearch.report.accuracy import png_digest
from phonesearch.report.accuracy_plot import accuracy_page, accuracy_png, series_of


@pytest.fixture
def cases(tiny: Candidate) -> list[Case]:
    first = Case(
        row=1,
        device="Phone",
        model="Tiny <1B> $x$",
        architecture=tiny,
        processor="CPU",
        engine="one-4bit",
        weight_bits=4,
        phase="decode",
        prompt_tokens=64,
        generate_tokens=128,
        lengths_assumed=False,
        measured_tokens_per_s=10.0,
        predicted_tokens_per_s=11.0,
        predicted_low_tokens_per_s=8.0,
        predicted_high_tokens_per_s=14.0,
        exposure="unseen",
        doubt="",
        confidence="A",
        source="a table",
    )
    return [
        first,
        replace(first, row=2, measured_tokens_per_s=20.0, exposure="fitted figure"),
        replace(first, row=3, engine="two-4bit", measured_tokens_per_s=30.0),
        replace(first, row=4, engine="two-4bit", phase="prefill", measured_tokens_per_s=500.0),
    ]


def size(content: bytes) -> tuple[int, int]:
    width, height = struct.unpack(">II", content[16:24])
    return width, height


def test_points_are_grouped_by_engine_and_by_what_the_fit_has_seen(cases: list[Case]) -> None:
    decode = series_of(cases, "decode")
    assert [(one.engine, one.exposure, [case.row for case in one.cases]) for one in decode] == [
        ("one-4bit", "fitted figure", [2]),
        ("one-4bit", "unseen", [1]),
        ("two-4bit", "unseen", [3]),
    ]
    (prefill,) = series_of(cases, "prefill")
    assert prefill.colour == decode[2].colour != decode[0].colour


def test_a_figure_in_the_fit_never_looks_like_one_that_is_not(cases: list[Case]) -> None:
    page = accuracy_page("check", cases)
    data = page[page.rindex("Plotly.newPlot(") :]
    traces = json.loads(data[data.index("[{") : data.index("}]") + 2])
    symbols = {one["name"]: one["marker"]["symbol"] for one in traces if "marker" in one}
    assert symbols["one-4bit, not seen by the fit"] == "circle"
    assert symbols["one-4bit, in the fit, no test"] == "x-thin-open"


def test_the_page_has_every_point_with_its_interval_and_the_identity(cases: list[Case]) -> None:
    page = accuracy_page("check", cases)
    data = page[page.rindex("Plotly.newPlot(") :]
    assert data.count('"name":"predicted = measured"') == 2
    assert '"x":[10.0],"y":[11.0]' in data
    assert '"array":[3.0],"arrayminus":[3.0]' in data
    assert not re.search(r'<script[^>]* src="http', page)


def test_the_picture_is_as_wide_as_it_has_phases(cases: list[Case]) -> None:
    both = size(accuracy_png("check", cases))
    decode = size(accuracy_png("check", [case for case in cases if case.phase == "decode"]))
    assert both[0] > 1.5 * decode[0]
    assert both[1] == decode[1]


def test_the_picture_tells_which_data_it_shows(tmp_path: Path, cases: list[Case]) -> None:
    path = tmp_path / "plot.png"
    path.write_bytes(accuracy_png("check", cases, digest="abc123"))
    assert png_digest(path) == "abc123"

    path.write_bytes(path.read_bytes().replace(b"abc123", b"abc124"))
    assert png_digest(path) is None
    path.write_bytes(b"no picture")
    assert png_digest(path) is None


def test_one_point_alone_can_be_drawn(cases: list[Case]) -> None:
    assert size(accuracy_png("check", cases[:1]))[0] > 100


def test_an_axis_has_ticks_to_read_it_by_however_close_the_points_are(cases: list[Case]) -> None:
    page = accuracy_page("check", cases[:1])
    data = page[page.rindex("Plotly.newPlot(") :]
    ticks = json.loads(data[data.index('"tickvals":') + 11 :].split("]")[0] + "]")
    assert len(ticks) >= 3
    assert min(ticks) <= cases[0].measured_tokens_per_s <= max(ticks)
