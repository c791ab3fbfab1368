"""The words and tables of `docs/device-accuracy.md`."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from phonesearch.candidate.count import total_parameters
from phonesearch.device.data import published_speeds
from phonesearch.device.fit import (
    ASSUMED_GENERATE_TOKENS,
    ASSUMED_PROMPT_TOKENS,
    MIN_OWN_ARCHITECTURES,
    Phase,
)
from phonesearch.device.held_out_models import HeldOutDecode, held_out_decodes
from phonesearch.device.profile import Accuracy, DeviceProfile
from phonesearch.device.score import PHASES, Case, Group, score
from phonesearch.report.accuracy_format import cell, counted, gb, percent, rate, signed
from phonesearch.report.accuracy_goals import (
    GOAL_MEDIAN,
    GOAL_MODELS,
    GOAL_TAU,
    GOAL_WITHIN_20,
    Shipped,
    goals,
)
from phonesearch.report.accuracy_prose import INTRODUCTION, missing_section, own_table_section

_WORST: Final = 3
_LARGE: Final = 1e9
"""Parameters from which on a decode step is mostly the reading of weights."""
_COARSE: Final = 10
"""Below it, a whole number of tokens a second is off by more than 5 % at times."""


def plot_name(profile: str) -> str:
    """Path of a profile's plot, as the page names it."""
    return f"device-accuracy/{profile}.png"


def page_text(shipped: Shipped) -> str:
    """The whole page, in Markdown."""
    sections = [
        INTRODUCTION,
        _reading(shipped),
        _overview(shipped),
        _goal_section(shipped),
        *(_held_out_section(profile) for profile, _ in shipped.values()),
        *(_profile_section(profile, cases) for profile, cases in shipped.values()),
        missing_section(shipped),
        own_table_section(),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _reading(shipped: Shipped) -> str:
    coverages = sorted({profile.coverage for profile, _ in shipped.values()})
    meant = " or ".join(percent(coverage, digits=0) for coverage in coverages)
    everything = [case for _, cases in shipped.values() for case in cases]
    many = [
        case
        for profile, cases in shipped.values()
        for case in cases
        if _accuracy(profile, case.engine, case.phase).num_models >= MIN_OWN_ARCHITECTURES
    ]
    return f"""## How to read it

* **Error** is predicted over measured tokens/s, less one: above 0 is predicted too fast.
  `phonesearch device list` gives the same errors of time, which differ a little.
* **Models** are distinct architectures; a fine-tune is no new model. Every row weighs the same
  in medians and shares.
* **Tau** is Kendall's rank correlation between models: 1 is the right order throughout.
* **Inside** is the share of measurements that lie in the interval of their prediction, meant to
  be {meant}. Over all profiles: {_inside(everything)};
  where at least {MIN_OWN_ARCHITECTURES} models stand behind it: {_inside(many)}.
  The widths were set from these same errors, so this shows that they are the right size on the
  whole, and is no independent test.
* **Prior** in place of a count means that no published row stands behind the phase: a
  coefficient is another chip's, scaled, and nothing was checked. Nor was it with **one model**,
  which leaves nothing to fit on, and **no length**: prefill counts here only where the source
  gives the prompt's length.
* Where a source gives no lengths, decode is taken at a prompt of {ASSUMED_PROMPT_TOKENS} and
  {ASSUMED_GENERATE_TOKENS} generated tokens.
* **Interval** is what a prediction is multiplied and divided by. With fewer than
  {MIN_OWN_ARCHITECTURES} models (†) the spread between models cannot be seen: the interval is
  assumed in part or in whole, or that of decode, and the errors themselves say little
  either way."""


def _inside(cases: Sequence[Case]) -> str:
    return ", ".join(
        f"{phase} {percent(found.interval_coverage)} of {found.rows}"
        for phase in PHASES
        if (found := score(case for case in cases if case.phase == phase)).rows
    )


def _accuracy(profile: DeviceProfile, engine: str, phase: Phase) -> Accuracy:
    found = profile.engines[engine]
    return found.decode if phase == "decode" else found.prefill


_SCORE_HEAD: Final = (
    "rows | models | median error | 9 in 10 below | within 10 % | within 20 % | tau | inside"
)


def _overview(shipped: Shipped) -> str:
    lines = [
        "## All profiles",
        "",
        f"| profile | processor | engine | bits | phase | {_SCORE_HEAD} | interval |",
        "|---|---|---|--:|---|" + "--:|" * 9,
    ]
    for name, (profile, cases) in shipped.items():
        for engine_name, engine in profile.engines.items():
            for phase in PHASES:
                accuracy = _accuracy(profile, engine_name, phase)
                own = [c for c in cases if (c.engine, c.phase) == (engine_name, phase)]
                lines.append(
                    f"| [{name}](#{name}) | {engine.processor} | {engine_name} "
                    f"| {engine.weight_bits} | {phase} | {_score_cells(own, accuracy)} "
                    f"| {_interval(accuracy)} |"
                )
    return "\n".join(lines)


def _interval(accuracy: Accuracy) -> str:
    """How wide, and whether enough models tell it."""
    few = " †" if accuracy.num_models < MIN_OWN_ARCHITECTURES else ""
    return f"×/÷ {math.exp(accuracy.interval_log_half_width):.2f}{few}"


def _score_cells(cases: Sequence[Case], accuracy: Accuracy) -> str:
    if not cases:
        what = "prior"
        if accuracy.rows:
            what = "one model" if accuracy.median_error is None else "no length"
        return " | ".join((what, *("-" for _ in range(7))))
    found = score(cases)
    return " | ".join(
        (
            str(found.rows),
            str(found.models),
            percent(found.median_error),
            percent(found.p90_error),
            percent(found.within_10, digits=0),
            percent(found.within_20, digits=0),
            "-" if found.kendall_tau is None else f"{found.kendall_tau:.2f}",
            percent(found.interval_coverage, digits=0),
        )
    )


def _goal_section(shipped: Shipped) -> str:
    found = goals(shipped)
    lines = [
        "## Against the goal",
        "",
        f"The goal holds for groups with at least {GOAL_MODELS} dense models of 0.1B to 4B and "
        "confidence A or B:",
        f"median error at most {percent(GOAL_MEDIAN['decode'], digits=0)} for decode and "
        f"{percent(GOAL_MEDIAN['prefill'], digits=0)} for prefill, "
        f"{percent(GOAL_WITHIN_20, digits=0)} of rows within 20 %, tau at least {GOAL_TAU}.",
        "Only those rows are scored here, so that figures differ from those above. Builds of one "
        "engine are one group, each figure predicted by the fit of its own build; that builds are "
        "told apart at all was decided on these same rows, so that it is no independent test.",
        "",
    ]
    if not found:
        return "\n".join([*lines, "No group has as many models."])
    lines += [
        "| profile | engine | phase | rows | models | median error | within 20 % | tau | goal |",
        "|---|---|---|--:|--:|--:|--:|--:|---|",
    ]
    for goal in found:
        tau = goal.score.kendall_tau
        lines.append(
            f"| {goal.profile} | {goal.group.engine} | {goal.phase} | {goal.score.rows} "
            f"| {goal.score.models} | {percent(goal.score.median_error)} "
            f"| {percent(goal.score.within_20, digits=0)} "
            f"| {'-' if tau is None else f'{tau:.2f}'} "
            f"| {'; '.join(goal.shortfalls) or 'met'} |"
        )
    short = [goal for goal in found if goal.shortfalls]
    if short:
        lines += ["", "Where a group falls short, these models are furthest off:", ""]
        lines += [
            f"* {goal.profile}, {goal.group.engine}, {goal.phase}: {_worst(goal.group.cases)}"
            f"{_rounding(goal.group.cases)}{_streams(goal.group)}"
            for goal in short
        ]
    return "\n".join(lines)


def _worst(cases: Sequence[Case]) -> str:
    """Models with the largest median error, and by how much their own rows differ."""
    by_model: dict[str, list[Case]] = {}
    for case in cases:
        by_model.setdefault(case.model, []).append(case)
    medians = {
        model: statistics.median(case.error for case in own) for model, own in by_model.items()
    }
    named = []
    for model in sorted(medians, key=lambda model: -abs(medians[model]))[:_WORST]:
        rates = [case.measured_tokens_per_s for case in by_model[model]]
        spread = f" (measured {rate(min(rates))} to {rate(max(rates))})" if len(rates) > 1 else ""
        named.append(f"{model} {signed(medians[model])}{spread}")
    return ", ".join(named)


def _rounding(cases: Sequence[Case]) -> str:
    """What whole numbers in the sources cost, where it is worth saying."""
    coarse = [
        case.measured_tokens_per_s
        for case in cases
        if case.measured_tokens_per_s.is_integer() and case.measured_tokens_per_s < _COARSE
    ]
    if not coarse:
        return ""
    worst = percent(0.5 / min(coarse), digits=0)
    return (
        f". {counted(len(coarse), 'row')} of {len(cases)} are printed in whole tokens/s below "
        f"{_COARSE}, which alone is off by up to {worst} at {rate(min(coarse))}"
    )


def _streams(group: Group) -> str:
    """Weights a second that the figures themselves imply for the larger models, by size: where
    they do not fall in order, no cost that grows with the model can meet them."""
    found: dict[tuple[int, str], list[float]] = {}
    for case in group.cases:
        parameters = total_parameters(case.architecture)
        if case.phase == "decode" and parameters >= _LARGE:
            found.setdefault((parameters, case.model), []).append(case.measured_tokens_per_s)
    if len(found) < _WORST:
        return ""
    named = ", ".join(
        f"{model} {gb(parameters * group.weight_bits / 8 * statistics.median(speeds))}"
        for (parameters, model), speeds in sorted(found.items())
    )
    return f". By the figures alone weights are read at: {named}"


def _held_out_section(profile: DeviceProfile) -> str:
    found = held_out_decodes(profile)
    if not found:
        return ""
    lines = []
    for row in dict.fromkeys(one.row for one in found):
        lines += _held_out_lines(profile, [one for one in found if one.row == row])
    return "\n".join(lines)


def _held_out_lines(profile: DeviceProfile, found: Sequence[HeldOutDecode]) -> list[str]:
    one = found[0]
    lines = [
        f"## {one.model} on {profile.name}, in no fit",
        "",
        f"Published: {rate(one.measured_tokens_per_s)} tokens/s of decode with "
        f"{one.measured_with} (row {one.row}, confidence {one.confidence}; {cell(one.source)}). "
        f"Predicted for the engines of the profile, none of which is {one.measured_with}:",
        "",
        "| engine | predicted tokens/s | interval | error | part of the step spent on calls "
        "| streams | would have to stream |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for one in found:
        lines.append(
            f"| {one.engine} | {rate(one.predicted_tokens_per_s)} "
            f"| {rate(one.predicted_low_tokens_per_s)} to {rate(one.predicted_high_tokens_per_s)}"
            f" | {signed(one.error)} | {percent(one.calls_share, digits=0)} "
            f"| {gb(one.bandwidth_bytes_per_s)} | {gb(one.needed_bytes_per_s)} |"
        )
    return [
        *lines,
        "",
        "Why: the last two columns are the bandwidth that the fit found for each engine, and "
        "what the published rate takes at the engine's weight width if calls, attention and "
        "activations cost nothing. An engine of which the second is larger could not reach that "
        "rate even then; the time of calls comes on top. A profile speaks for its engine, not "
        "for the best that the chip can do. Bytes are counted as in the deployment graph, with a "
        "float32 scale for each block of weights below 16 bits.",
    ]


def _profile_section(profile: DeviceProfile, cases: Sequence[Case]) -> str:
    lines = [f"## {profile.name}", "", f"{profile.description} ({profile.soc})."]
    for name, engine in profile.engines.items():
        lines += ["", f"**{name}**, {engine.processor}: {engine.description}.", ""]
        lines += [
            f"* Fitted on {_behind(engine.decode, 'decode')} and "
            f"{_behind(engine.prefill, 'prefill')}.",
            f"* {_left_out(profile.name, name)}",
        ]
        for label, number in (
            ("Matmul rate", engine.fitted.matmul_ops_per_s),
            ("Cost of a call", engine.fitted.seconds_per_call),
        ):
            if number.source.startswith("prior"):
                lines.append(f"* {label}, not fitted: {cell(number.source)}.")
    if not cases:
        return "\n".join([*lines, "", "Nothing was checked: no figure can be left out."])
    lines += [
        "",
        f"| engine | phase | {_SCORE_HEAD} |",
        "|---|---|" + "--:|" * 8,
    ]
    for name in profile.engines:
        for phase in PHASES:
            accuracy = _accuracy(profile, name, phase)
            own = [case for case in cases if (case.engine, case.phase) == (name, phase)]
            lines.append(f"| {name} | {phase} | {_score_cells(own, accuracy)} |")
    lines += [
        "",
        f"![Predicted against measured tokens/s on {profile.name}]({plot_name(profile.name)})",
        "",
        f"<details><summary>All {len(cases)} figures, each predicted without its model</summary>",
        "",
        *_case_table(cases),
        "",
        "</details>",
    ]
    return "\n".join(lines)


def _behind(accuracy: Accuracy, phase: Phase) -> str:
    if not accuracy.rows:
        return f"no {phase} figure"
    return f"{counted(len(accuracy.rows), f'{phase} figure')} of " + counted(
        accuracy.num_models, "model"
    )


def _left_out(soc_id: str, engine: str) -> str:
    reasons = Counter(
        speed.left_out_because
        for speed in published_speeds()
        if (speed.soc_id, speed.engine) == (soc_id, engine) and speed.left_out_because
    )
    if not reasons:
        return "No carried row was left out of the fit."
    listed = "; ".join(
        f"{counted(count, 'row')}: {cell(why)}" for why, count in reasons.most_common()
    )
    return f"Left out of the fit, {listed}."


def _case_table(cases: Iterable[Case]) -> list[str]:
    lines = [
        "| row | engine | phase | model | measured | predicted | interval | error | source |",
        "|--:|---|---|---|--:|--:|--:|--:|---|",
    ]
    for case in cases:
        low, high = case.predicted_low_tokens_per_s, case.predicted_high_tokens_per_s
        outside = "" if case.is_inside else " (outside)"
        lines.append(
            f"| {case.row} | {case.engine} | {case.phase} | {cell(case.model)} "
            f"| {rate(case.measured_tokens_per_s)} | {rate(case.predicted_tokens_per_s)} "
            f"| {rate(low)} to {rate(high)}{outside} | {signed(case.error)} "
            f"| {case.confidence}: {cell(case.source)} |"
        )
    return lines
