"""Writes `docs/proxy.md`: what losses are judged by, what that can tell and what it cannot.

python -m phonesearch.report.proxy_page                 # writes docs/proxy.md
python -m phonesearch.report.proxy_page --check         # fails if it differs from that

Every figure is worked out here, from the shipped law and the table of the study.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from phonesearch.files import write_text
from phonesearch.proxy.settings import ProxySettings, gpu_settings
from phonesearch.proxy.uncertainty import COPY_GAP_PASSED_NATS
from phonesearch.quality.law import aspect_penalty, log_best_aspect
from phonesearch.quality.shipped import ShapeLaw, shipped_law
from phonesearch.quality.terms import LENGTH_SCALE, PRIOR_TERMS, RESIDUAL_SD, TRANSFER_SCALE
from phonesearch.report.markdown import markdown_table
from phonesearch.report.proxy_study import Studies, read_studies, study_section
from phonesearch.study.anchors import CONTINUED

PAGE: Final = "proxy.md"
_ASPECTS: Final = (12, 20, 32, 50, 80, 128, 200, 320)
_HORIZONS: Final = (20.0, 100.0, 700.0)
_PARAMETERS: Final = 1.5e9


def page_text(law: ShapeLaw, studies: Studies) -> str:
    """The whole page, in Markdown.

    Args:
        law: As shipped.
        study: What the committed study says; None if there is none.
        shorter: The same of trainings as they were before.
        lengths: How trainings of both rank each other.
    """
    sections = (
        _introduction(),
        _law_section(law),
        _evidence_section(law),
        _terms_section(),
        _training_section(),
        study_section(studies),
        _limits_section(),
    )
    return "\n\n".join(sections) + "\n"


def _introduction() -> str:
    return """# How losses are judged

Made by `python -m phonesearch.report.proxy_page` from what is shipped; no figure is typed by hand.

Nobody can train a thousand models of 1.5B to choose one. Short trainings of small copies are noisy,
and worse, they are biased: they favour shallow, wide shapes, whose lead turns round later. So the
loss of a candidate is an estimate of three parts:

1. **A law of published losses** for what short trainings cannot tell: size, and depth against width
   after a training of the planned length (`--horizon`).
2. **Published comparisons**, as priors with wide deviations, for everything else: gated or plain
   network, activation, feed-forward ratio, key/value heads, tied embeddings.
3. **Short trainings** of a few architectures, the anchors, which correct the priors: one Bayesian
   linear model, in closed form, with a deviation for each candidate and for each difference.

| `--proxy` | what is trained | when to take it |
|---|---|---|
| `anchors` | 12 to 20 small models of neutral depth, once; kept for later runs | the default |
| `each` | a small model of every candidate, which all of them are judged by | a GPU box |
| `prior` | nothing | a first look; the page says so everywhere |

`phonesearch check RUN` trains candidates of the front afterwards and holds each against what all
other trainings lead one to expect of it; that judges nothing anew.

Losses are relative: *1 % above the best* is a difference of 0.01 in the natural log of the loss.
Candidates whose difference is within its deviation are shown as tied, and the faster is
recommended."""


def _law_section(law: ShapeLaw) -> str:
    rows = [
        ("fit", "points", "shapes", "k", "m0", "m1", "m2", "rms, log loss"),
        *(
            (
                name,
                str(fit.num_points),
                str(fit.num_shapes),
                f"{fit.aspect.curvature:.4f} ± {fit.aspect_standard_error.curvature:.4f}",
                f"{fit.aspect.optimum:.2f} ± {fit.aspect_standard_error.optimum:.2f}",
                f"{fit.aspect.per_log_parameters:.2f} ± "
                f"{fit.aspect_standard_error.per_log_parameters:.2f}",
                f"{fit.aspect.per_log_horizon:.2f} ± "
                f"{fit.aspect_standard_error.per_log_horizon:.2f}",
                f"{fit.rms_log_error:.4f}",
            )
            for name, fit in (
                ("Gemstones", law.gemstones),
                ("Morph", law.morph),
                ("both", law.joint),
            )
        ),
    ]
    penalties = [("tokens a parameter", "best", *(str(aspect) for aspect in _ASPECTS))]
    for horizon in _HORIZONS:
        tokens = _PARAMETERS * horizon
        best = math.exp(log_best_aspect(law.joint.aspect, parameters=_PARAMETERS, tokens=tokens))
        penalties.append(
            (
                f"{horizon:g}",
                f"{best:.0f}",
                *(
                    _percent(
                        aspect_penalty(
                            law.joint.aspect,
                            math.log(aspect),
                            parameters=_PARAMETERS,
                            tokens=tokens,
                        )
                    )
                    for aspect in _ASPECTS
                ),
            )
        )
    sources = "; ".join(f"{one.suite}: {one.source} ({one.licence})" for one in law.sources)
    return f"""## The law

    log loss = log(E + A (N/1e8)^-alpha + B (D/1e10)^-beta) + k (log(d/L) - mu)^2
    mu = m0 + m1 log(N/1e9) + m2 log((D/N)/100)

with N parameters, D tokens, width d and L layers. Fitted to two published suites ({sources}).
Anybody can fit it again: `phonesearch quality fit TABLES.csv`.

{markdown_table(rows)}

What a width over depth costs at 1.5B, against the best, by both suites together:

{markdown_table(penalties)}"""


def _evidence_section(law: ShapeLaw) -> str:
    found = law.evidence
    ranks = found.morph_law_on_gemstones
    by_size = ", ".join(f"{name} {value:.2f}" for name, value in ranks.by_size)
    short = [("tokens", "pairs in order", "with the law's shift", "Spearman", "with the shift")]
    short += [
        (
            f"{run.tokens / 1e9:.0f}B",
            f"{run.pairs_right:.0%}",
            f"{run.pairs_right_shifted:.0%}",
            f"{run.spearman:.2f}",
            f"{run.spearman_shifted:.2f}",
        )
        for run in found.short_runs_with_morph_law
    ]
    anchors = [("set", "anchors", "pairs in order", "by size alone", "residual sd, log perplexity")]
    anchors += [
        (
            one.dataset,
            str(one.anchors),
            f"{one.pairs_right:.2f}",
            f"{one.pairs_right_by_size:.2f}",
            f"{one.residual_sd:.3f}",
        )
        for one in found.anchors
    ]
    group = found.gemstones_law_on_morph
    return f"""## How far the law carries

Each suite is ranked by the law of the *other*:

* Morph's law on the last losses of Gemstones (350B tokens), Spearman by size: {by_size};
  size-corrected over all shapes {ranks.spearman:.2f}. Of {ranks.pairs} pairs of like size
  {ranks.pairs_right:.0%} are in order. About the law the losses scatter by {ranks.scatter:.4f}
  (log), without it by {ranks.scatter_without_law:.4f}.
* Gemstones' law on Morph, within {group.groups} groups of one size and training: mean Spearman
  {group.mean_spearman:.2f}.

What real short trainings of the same models say of the last losses of Gemstones, alone and with the
bias taken off that Morph's law expects:

{markdown_table(short)}

How many trained architectures a regression on shape needs (LiteTransformerSearch, pairs of like
size among architectures it has not seen):

{markdown_table(anchors)}"""


def _terms_section() -> str:
    rows = [("term", "prior", "deviation", "short to long", "small to full", "source")]
    rows += [
        (
            name.replace("_", " "),
            f"{term.mean:+.4f}",
            f"{term.sd:.4f}",
            f"{LENGTH_SCALE * term.transfer_sd:.4f}",
            f"{TRANSFER_SCALE * term.transfer_sd:.4f}",
            term.source,
        )
        for name, term in PRIOR_TERMS.items()
    ]
    return f"""## Priors of everything else

In log loss. *Short to long* is how far an effect in a short training of a small model may be from
that in one of four times the tokens, *small to full* how far that may be from the one in the
planned training. How terms compare in this is assumed; the common factors, {LENGTH_SCALE:g} and
{TRANSFER_SCALE:g}, are those under which the trainings of the study below are likeliest. Where they
are wide, short trainings hardly move what is published. Each architecture has besides a residual of
its own of {RESIDUAL_SD} that no term explains.

{markdown_table(rows)}"""


def _training_section() -> str:
    recipe = ProxySettings()
    gpu = gpu_settings(recipe)
    return f"""## The short trainings

{recipe.parameters:,} non-embedding parameters and {recipe.tokens:,} tokens by default;
`--proxy-time` plans more where there is time. On a GPU {gpu.parameters:,} parameters and at most
{gpu.tokens:,} tokens in windows of {gpu.context_length} (not tried by us: none was lent). Kept
of the candidate: kind, activation and ratio
of its feed-forward network, width of attention, key/value grouping, tying. Not its depth against
width: what is copied is the distance from the best, as the law has it for the small model and its
short training. All see the same batches in the same order and are scored on the same
{recipe.validation_windows} windows after the learning rate has come down to zero. Muon trains the
matrices, AdamW the rest. The text is the Python library's own sources if no other is given: code
is repetitive and favours what helps copying, so give real text (`--data`) for real decisions.

**The guard.** Small models drop by half a nat when they learn to copy from their context, and when
that happens depends on shape. A training whose first and last quarter of the window differ by less
than {COPY_GAP_PASSED_NATS} nats has not got there, is shown apart and never used; where two or more
anchors have not, these are gone on with for {CONTINUED:g} times the tokens and compared with each
other. Passing is needed
and does not suffice: see below."""


def _limits_section() -> str:
    return """## What this cannot tell

* **Whether an effect at 0.3M parameters is there at 1.5B.** The law and the published comparisons
  have that evidence; short trainings here do not.
* **Depth.** Anchors are of neutral depth on purpose. The law's optimum rests on two suites of gated
  networks from 50M to 2B; outside these its deviation grows.
* **Differences finer than the deviation.** Most candidates on a front are within a percent or two.
* **Width at 1.5B.** Small models have equal non-embedding parameters, so a narrower feed-forward
  network means a wider model, and a wider table and head besides: a fifth of a model of 0.3M, a
  fifteenth of one of 1.5B. Small models flatter narrow feed-forward networks for it, by how much
  is not known; it is one reason why effects are allowed to be so different at full size.
* **Downstream quality.** Loss is not accuracy: deeper models of equal loss may fine-tune better
  (Tay et al., arXiv 2109.10686).
* **Vocabulary.** Small models have one of 1,024 entries, whatever the candidate's."""


def _percent(log_loss: float) -> str:
    return f"{math.expm1(log_loss):+.2%}"


def shipped_page(folder: Path) -> str:
    """The page as it should be, of the studies in the folder."""
    return page_text(shipped_law(), read_studies(folder))


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page, or with `--check` compare it; exit code."""
    parser = argparse.ArgumentParser(prog="python -m phonesearch.report.proxy_page")
    parser.add_argument("--check", action="store_true", help="compare only, write nothing")
    parser.add_argument("--folder", type=Path, default=Path("docs"), help="default: docs")
    chosen = parser.parse_args(arguments)
    page = chosen.folder / PAGE
    if not chosen.check:
        write_text(page, shipped_page(chosen.folder))
        sys.stdout.write(f"wrote {page}\n")
        return 0
    if page.is_file() and page.read_text(encoding="utf-8") == shipped_page(chosen.folder):
        return 0
    sys.stderr.write(f"{page} is not what this command gives; run it again\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
