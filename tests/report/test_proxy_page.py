"""The page on how losses are judged says what is shipped, and nothing else."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from phonesearch.quality.lengths import LengthPair
from phonesearch.quality.shipped import shipped_law
from phonesearch.quality.study import AlongTheWay, Ranking, StudyResult
from phonesearch.report.proxy_page import main, page_text
from phonesearch.report.proxy_study import Studies

DOCS = Path(__file__).parents[2] / "docs"
STUDY = StudyResult(
    tokens=1_230_000,
    num_architectures=20,
    num_of_one_depth=16,
    num_short=27,
    num_passed=25,
    longer=4,
    rankings=(
        Ranking(what="short loss alone", overall=0.41, one_depth=0.52),
        Ranking(what="law, priors and short losses", overall=0.83, one_depth=0.79, held=0.9),
    ),
    seed_difference=0.0042,
    truth_sd=0.02,
    ceiling=0.876,
    transfer_scale=6.0,
    length_scale=3.0,
    along=(AlongTheWay(tokens=456_000, overall=0.11, one_depth=0.22),),
)


def test_the_committed_page_is_what_the_command_gives() -> None:
    assert main(["--check", "--folder", str(DOCS)]) == 0


def test_a_changed_page_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--folder", str(tmp_path)]) == 0
    page = tmp_path / "proxy.md"
    page.write_text(page.read_text().replace("0.0075", "0.0076"))
    assert main(["--check", "--folder", str(tmp_path)]) == 1
    assert "run it again" in capsys.readouterr().err


def test_figures_are_those_of_the_law_and_of_the_study() -> None:
    law = shipped_law()
    fit = dataclasses.replace(
        law.joint, aspect=dataclasses.replace(law.joint.aspect, curvature=0.0123)
    )
    text = page_text(dataclasses.replace(law, joint=fit), Studies(study=STUDY))
    assert "| both | 208 | 57 | 0.0123 ±" in text
    assert "| law, priors and short losses | 0.83 | 0.79 |" in text
    assert "correlate only about 0.88 with" in text
    assert "missed: within one depth at least 0.85; met: over all at least 0.8" in text
    # 0.0123 (log 12 - log 55)^2 = 2.9 %, against 1.7 % as shipped
    best = math.exp(3.88 + 0.29 * math.log(1.5))
    assert best == pytest.approx(54.5, abs=1)
    assert "| 100 | 55 | +2.8" in text


def test_without_a_study_the_page_says_how_to_make_one() -> None:
    text = page_text(shipped_law(), Studies())
    assert "proxy_study.py train" in text
    assert "how well they rank is not known" in text


def test_where_no_architecture_has_two_seeds_the_page_says_so() -> None:
    alone = page_text(
        shipped_law(), Studies(study=dataclasses.replace(STUDY, seed_difference=math.nan))
    )
    assert "none has two seeds yet" in alone
    assert "nan" not in alone.replace("nanochat", "")


def test_the_shorter_study_stands_under_its_own_heading() -> None:
    shorter = dataclasses.replace(STUDY, tokens=600_000)
    before, after = page_text(shipped_law(), Studies(study=STUDY, shorter=shorter)).split(
        "### Why they are not shorter"
    )
    assert "1,230,000 tokens" in before
    assert "600,000 tokens" in after
    assert "study-700k.csv" in after
    assert "| 456,000 | 0.11 | 0.22 |" in after


def test_what_another_guard_would_have_said_is_told() -> None:
    former = dataclasses.replace(
        STUDY,
        num_passed=27,
        rankings=(
            Ranking(what="law, priors and short losses", overall=0.71, one_depth=0.62, held=0.9),
        ),
    )
    told = " ".join(page_text(shipped_law(), Studies(study=STUDY, former_guard=former)).split())
    assert "former one 27 of 27 passed" in told
    assert "had 0.71 and 0.62 instead of 0.83 and 0.79" in told


def test_lengths_are_held_against_each_other_where_there_are_two_studies() -> None:
    pair = LengthPair(
        tokens=600_000,
        longer_tokens=4_920_000,
        num_architectures=17,
        overall=0.37,
        one_depth=-0.12,
    )
    line = "| 600,000 | 4,920,000 | 17 | 0.37 | -0.12 |"
    shorter = dataclasses.replace(STUDY, tokens=600_000)
    assert line in page_text(shipped_law(), Studies(study=STUDY, shorter=shorter, lengths=(pair,)))
    assert line not in page_text(shipped_law(), Studies(shorter=shorter, lengths=(pair,)))
