"""The first and the last words of `docs/device-accuracy.md`."""

from __future__ import annotations

from collections import Counter
from typing import Final

from phonesearch.device.data import published_speeds
from phonesearch.device.engine_match import FAMILIES
from phonesearch.device.speed_table import MODEL_COLUMNS, SPEED_COLUMNS
from phonesearch.report.accuracy_format import cell, counted
from phonesearch.report.accuracy_goals import Shipped

INTRODUCTION: Final = """# How far off the device profiles are

<!-- Made by `make accuracy`; a test holds it to that. Do not edit it, it is written over. -->

A profile predicts the speed of shapes that nobody has built. So each of its errors here is that
of a model that the fit had **not** seen: every model in turn is left out with all of its rows,
the coefficients are fitted on the others, and the model is predicted. How well a profile fits
the rows that it was made from is shown nowhere on this page. No phone was measured by us; each
figure names the table, thread or model card that it comes from."""


def missing_section(shipped: Shipped) -> str:
    """Engines that rows were looked at for, and that have no profile."""
    reasons: Counter[tuple[str, str, str]] = Counter(
        (speed.soc_id, speed.engine, speed.left_out_because)
        for speed in published_speeds()
        if speed.soc_id in shipped and speed.engine not in shipped[speed.soc_id][0].engines
    )
    listed = "\n".join(
        f"* {engine} on {device}, {counted(count, 'row')}: {cell(because)}."
        for (device, engine, because), count in reasons.items()
    )
    return f"""## What has no profile

Rows that were looked at and make no engine of a profile:

{listed}

LiteRT-LM on a CPU has published figures of at most one model a phone that a candidate can stand
for: most are of Gemma 3n and 4, whose blocks are others. MNN has them, with the processor stated,
on the one chip above. GPUs have no profile: the cost model was checked on CPUs and on an NPU, and
no GPU has figures of more than three such models with one engine and width."""


def own_table_section() -> str:
    """What a table of one's own must hold, and how a row finds its engine."""
    speed_columns, model_columns = (
        ", ".join(f"`{name}`" for name in columns) for columns in (SPEED_COLUMNS, MODEL_COLUMNS)
    )
    families: dict[str, list[str]] = {}
    for pattern, family in FAMILIES:
        families.setdefault(family, []).append(f"`{pattern}`")
    names = "\n".join(f"| {family} | {', '.join(found)} |" for family, found in families.items())
    return f"""## A table of your own

`phonesearch device validate NAME --against TABLE.csv [--configs CONFIGS.csv]` holds a profile
against any table in this form, and `device fit` makes a profile from one:

* TABLE.csv has one row a figure, with the columns {speed_columns};
  `device`, `model`, `quant`, `prompt_len`, `gen_len`, `confidence`, `source` and `date` help.
* CONFIGS.csv has one row a model, with the columns {model_columns}. Without it, the models that
  the package carries are known. A model with another block (convolutions, linear attention,
  experts, LayerNorm, ALiBi) is skipped and counted.

A row is of a profile when its `soc_id` or `device` is the profile's name, and of an engine called
`FAMILY[-QUALIFIER]-BITSbit` when `processor` and `weight_bits` are the engine's, the printed
`engine` begins as below in small letters, and the row has the qualifier: a year is that of the
build, or else of the row's `date`; a quantisation stands in `quant`, and so do the recipes by which
`meta` is told (SpinQuant, QLoRA, QAT). Forks and engines built on
others are no members of the family. A row may also name the engine as the profile does.

| family | printed engine begins with |
|---|---|
{names}

Rows that the profile was fitted on are marked as such and scored apart: they show how well it
fits, not how well it predicts."""
