from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from html.parser import HTMLParser

import pytest

from phonesearch.report.data import ReportInput
from phonesearch.report.judged import anchors_table, parts_table
from phonesearch.report.loss import drawn_loss, parts_above_best, point_hover
from phonesearch.report.page import pareto_page, report_page
from phonesearch.report.scatter import pareto_figure
from phonesearch.report.tables import front_table, trials_list
from phonesearch.study.record import TrialRecord
from phonesearch.study.score import ScoreKind

VOID = {"meta", "br", "hr", "img", "input", "link"}


class Page(HTMLParser):
    """Tags, attributes, visible text and figure data of a page."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.unbalanced: list[str] = []
        self.text = ""
        self.data: dict[str, str] = {}
        self._id = ""
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._id = dict(attrs).get("id") or ""
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.data[self._id] = data
        elif self.open and self.open[-1] != "style":
            self.text += data + " "

    def attributes(self, name: str) -> list[str]:
        return [attrs[name] or "" for _, attrs in self.tags if name in attrs]


@pytest.fixture(scope="module", params=[report_page, pareto_page], ids=["report", "pareto"])
def write(request: pytest.FixtureRequest) -> Callable[[ReportInput], str]:
    made: Callable[[ReportInput], str] = request.param
    return made


def test_a_page_asks_nobody_else_for_anything(
    write: Callable[[ReportInput], str], report: ReportInput
) -> None:
    page = Page(write(report))

    assert not [tag for tag, _ in page.tags if tag in ("link", "img", "iframe", "base")]
    assert page.attributes("src") == []
    assert page.attributes("href") == []
    assert "@import" not in write(report)


def test_a_page_is_well_formed_and_its_names_are_unique(
    write: Callable[[ReportInput], str], report: ReportInput
) -> None:
    page = Page(write(report))
    ids = page.attributes("id")

    assert page.open == []
    assert page.unbalanced == []
    assert len(ids) == len(set(ids))


def test_every_figure_has_its_data_and_a_box(
    write: Callable[[ReportInput], str], report: ReportInput
) -> None:
    page = Page(write(report))

    wanted = page.attributes("data-figure")
    assert "pareto-data" in wanted
    for name in wanted:
        assert "<" not in page.data[name]
        figure = json.loads(page.data[name])
        assert figure["data"]
        assert figure["layout"]["height"] > 0


def test_plotly_is_inside_once(write: Callable[[ReportInput], str], report: ReportInput) -> None:
    content = write(report)

    assert content.count("* plotly.js v") == 1
    assert len(content) < 7_000_000


def test_text_from_outside_cannot_become_code(report: ReportInput, hostile: str) -> None:
    """The string is in a failed trial's reason (table and hover) and in the settings."""
    renamed = dataclasses.replace(
        report, name=hostile, device_note=hostile, warnings=(hostile,), commands={hostile: hostile}
    )
    content = report_page(renamed)
    page = Page(content)

    assert hostile not in content
    assert "<img" not in content.replace("<image", "").split("</head>")[1]
    assert page.text.count(hostile) >= 6
    assert page.attributes("onerror") == []


def test_the_page_says_predicted_and_shows_the_knee_and_the_warnings(report: ReportInput) -> None:
    text = Page(report_page(report)).text

    assert "54.7 tokens/s predicted" in text
    assert f"#{report.front.knee}" in text
    assert "Proxies were trained on Python sources." in text
    assert "--max-ttft 1.2" in text
    assert "measured" not in text.replace("predicted, not measured", "").replace(
        "predicted and measured in separate columns", ""
    )


def test_a_front_that_was_measured_after_the_search_is_called_measured(
    make_report: Callable[[tuple[TrialRecord, ...]], ReportInput],
    records: tuple[TrialRecord, ...],
) -> None:
    """All others are predicted, and each row of the long table says which it is."""
    ranked = make_report(records).front.members
    chosen = {point.number for point in ranked}
    mixed = make_report(
        tuple(
            dataclasses.replace(record, measured=record.predicted)
            if record.number in chosen
            else record
            for record in records
        )
    )
    mixed = dataclasses.replace(mixed, settings=mixed.settings | {"front measured on": "adb"})

    assert "predicted" not in Page(front_table(mixed)).text
    listed = trials_list(mixed)
    timed = [record for record in records if record.speed is not None]
    assert listed.count("<small>measured</small>") == len(chosen)
    assert listed.count("<small>predicted</small>") == len(timed) - len(chosen)
    assert "front measured on adb" in Page(report_page(mixed)).text


def test_a_measured_run_does_not_say_predicted_of_its_candidates(
    make_report: Callable[[tuple[TrialRecord, ...]], ReportInput],
    records: tuple[TrialRecord, ...],
) -> None:
    measured = tuple(
        dataclasses.replace(
            entry,
            measured=entry.predicted,
            predicted=None,
            prefill_seconds_by_operator=None,
            decode_seconds_by_operator=None,
        )
        for entry in records
    )
    report = dataclasses.replace(make_report(measured), known=(), device_note="Measured here.")
    text = Page(report_page(report)).text.replace("predicted and measured in separate", "")

    assert "tokens/s measured" in text
    assert "predicted" not in text
    assert "Where the time goes" not in text


def test_a_run_without_a_ranked_candidate_says_why(
    make_report: Callable[[tuple[TrialRecord, ...]], ReportInput],
    records: tuple[TrialRecord, ...],
) -> None:
    text = Page(report_page(make_report((records[4], records[7], records[11])))).text

    assert "No candidate could be ranked" in text
    assert "1 failed" in text


def test_pages_of_one_and_of_no_candidate_can_be_written(
    make_report: Callable[[tuple[TrialRecord, ...]], ReportInput],
    records: tuple[TrialRecord, ...],
) -> None:
    one = Page(report_page(make_report(records[:1]))).text
    none = Page(report_page(make_report(()))).text

    assert "One candidate, #0" in one
    assert "only member" in one
    assert "No candidate was evaluated" in none


def test_a_run_by_priors_says_wherever_a_loss_is_shown_that_nothing_was_trained(
    report_of: Callable[[ScoreKind], ReportInput],
) -> None:
    """Head, axis, tables of losses, shapes, and the page of the scatter alone."""
    prior, anchors = report_of("prior"), report_of("anchors")
    content = report_page(prior)
    drawn = json.loads(Page(content).data["pareto-data"])
    hovers = [text for trace in drawn["data"] for text in trace.get("hovertext", ())]

    assert "nothing was trained" in content[content.index("<h1>") : content.index("<h2>")]
    assert drawn["layout"]["yaxis"]["title"]["text"].endswith("nothing was trained")
    assert sum("nothing was trained" in text for text in hovers) == len(prior.front.ranked)
    assert not any("short trainings" in text for text in hovers)
    for table in (front_table(prior), trials_list(prior), parts_table(prior)):
        assert "nothing was trained" in Page(table).text
    assert "(%, nothing was trained)" in Page(content).text
    assert "nothing was trained" in Page(pareto_page(prior)).text
    assert "nothing was trained" not in report_page(anchors)
    assert "bits/byte" not in Page(front_table(prior)).text


def test_a_run_by_anchors_says_how_many_other_architectures_were_trained(
    report_of: Callable[[ScoreKind], ReportInput],
) -> None:
    """Two of sixteen are not used."""
    report = report_of("anchors")
    unknown = dataclasses.replace(report, quality=None)
    text = Page(report_page(report)).text

    assert "short trainings of 14 other architectures" in Page(front_table(report)).text
    assert "corrected by short trainings of 14 other architectures." in text
    assert "short trainings of other architectures" in Page(front_table(unknown)).text
    assert "The short trainings" not in Page(report_page(unknown)).text


def test_the_parts_of_a_loss_add_up_to_its_place_in_the_figure(
    report_of: Callable[[ScoreKind], ReportInput],
) -> None:
    front = report_of("anchors").front
    for point in front.members:
        parts = parts_above_best(point, front)
        total = parts.law + parts.prior + parts.proxy
        assert total * 100 == pytest.approx(drawn_loss(point, front), abs=1e-9)


def test_anchors_are_listed_with_their_errors_and_why_they_are_not_used(
    report_of: Callable[[ScoreKind], ReportInput], hostile: str
) -> None:
    quality = report_of("anchors").quality
    assert quality is not None
    text = Page(anchors_table(quality)).text
    page = Page(report_page(report_of("anchors"))).text

    assert text.count("± 0.9 %") == 14
    assert text.count("had not begun to copy") == 1
    assert f"failed, loss is not a number {hostile}" in text
    assert "14 of 16 anchors are used" in page
    assert "off by 0.8\u00a0% of loss" in page
    assert "100 tokens a parameter" in page
    assert "Depth against width is the law's alone." in page


def test_a_training_of_its_own_is_shown_in_bits_per_byte(
    report_of: Callable[[ScoreKind], ReportInput],
) -> None:
    report = report_of("each")
    member = report.front.members[0]
    assert member.proxy is not None
    own = f"{member.proxy.bits_per_byte:.4f}"

    assert own in Page(front_table(report)).text
    assert own in Page(trials_list(report)).text
    hover = point_hover(member, report.front, report.quality)
    assert any(own in line for line in hover)
    assert "short trainings, %" in Page(parts_table(report)).text


def test_the_recommended_candidate_is_marked(
    report_of: Callable[[ScoreKind], ReportInput],
) -> None:
    """The fastest of those that the best cannot be told from."""
    report = report_of("prior")
    front = report.front
    assert front.recommended not in (front.best_loss, None)
    rows = front_table(report).split("<tr ")
    marked = [row for row in rows if 'class="recommended"' in row]

    assert len(marked) == 1
    assert f"<b>#{front.recommended}</b>" in marked[0]
    legend = [trace.name for trace in pareto_figure(report).data]
    assert f"recommended (#{front.recommended})" in legend
