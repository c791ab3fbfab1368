"""Faults struck into measurements on the fake phone, at random moments, and what came of each.

For every kind of fault, every trial starts a measurement, strikes once, and in half of the trials
mends the fault a while later (replug, consent, space). Trials that were over too early are made up
for by more, up to as many again. What the measurement did is then one of

    went on       it gave a result, whole and of the right phone
    clear error   it raised a `PhoneSearchError`
    no strike     it was over before the fault could strike (a result, as above)
    BROKEN        anything else: another exception, a hang, samples missing, a result of another
                  phone, or something left behind

Then the fault is mended, in every fourth trial the same is measured again, which must succeed, and
`phone clean` must leave neither file nor process on the phone. Needs what the tests with the mark
`adb` need. The last line is one JSON object.

With `--level run` it strikes a whole `phonesearch run` of a few tiny candidates, in turn with
`--measure all` and `--measure front`, from its first contact with the phone on. *Went on* is then a
run that came to its end, *clear error* one that ended in a message and said how to go on. After the
fault either is gone on with, with `--resume` (or typed again, where no folder was made yet), which
must come to its end. BROKEN is also a trial
that was over, or a line of `measurements.jsonl`, that is not the same bytes later, and a
measurement that lacks anything or is not of this phone.

    python benchmarks/phone_faults.py [--trials 20] [--seed 1] [--adb debian|adbutils]
        [--level session|backend|run] [--only "disk full"]
"""

from __future__ import annotations

import argparse
import collections
import itertools
import json
import math
import os
import random
import shutil
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "phone"))

from fakephone_faults import FAULTS, FOLDER, Bench, Strike, left_behind
from fakephone_measure import LEVELS, measurement
from fakephone_rig import adb_server, serve
from fakephone_search import GO_ON, NOT_BEGUN, Ended, Kept, Kind, Searches
from fakephone_search import HANGS_AFTER_S as RUN_HANGS_AFTER_S

from phonesearch.errors import PhoneSearchError
from phonesearch.phone.adb import Adb
from phonesearch.phone.clean import clean
from phonesearch.timing.base import Measurement

Measure = Callable[[str], Measurement]
"""Times the same tiny model on the phone of that serial, whatever is on the phone already."""

HANGS_AFTER_S = 90.0
IN_PUSH = "cable lost in push"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One fault and its outcome."""

    fault: str
    client: str
    seed: int
    at_s: float | None
    """Of the strike, after the start."""
    mended_after_s: float | None
    outcome: str
    said: str
    """The error's class and message, or what is broken."""
    seconds: float


@contextmanager
def bench(client: str, seed: int) -> Iterator[Bench]:
    """Two phones and an adb, the variables of this process set to it."""
    program = shutil.which("adb") or ""
    if client == "adbutils":
        import adbutils

        program = str(Path(adbutils.__file__).parent / "binaries" / "adb")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        adb = stack.enter_context(adb_server(program, folder))
        phones = [stack.enter_context(serve()) for _ in range(2)]
        os.environ |= {**adb.environment, "ADB": program}
        os.environ.pop("ANDROID_SERIAL", None)
        adb.connect(phones[0])
        yield Bench(phones[0], adb, phones[1], random.Random(seed))


def attempt(measure: Measure, serial: str) -> tuple[Measurement | BaseException | None, float]:
    """Its result or exception, None if it hangs; and seconds."""
    found: list[Measurement | BaseException] = []

    def run() -> None:
        try:
            found.append(measure(serial))
        except BaseException as error:
            found.append(error)

    start = time.monotonic()
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(HANGS_AFTER_S)
    return (found[0] if found else None), time.monotonic() - start


def judged(result: Measurement | BaseException | None, good: Measurement) -> tuple[str, str]:
    """The outcome of one measurement, and what it said."""
    if result is None:
        return "BROKEN", f"hangs for more than {HANGS_AFTER_S:.0f} s"
    if isinstance(result, PhoneSearchError):
        text = f"{type(result).__name__}: {result}"
        plain = str(result).replace("\n", "").isprintable() and len(str(result)) > 20
        return ("clear error" if plain else "BROKEN"), text
    if isinstance(result, BaseException):
        return "BROKEN", "".join(traceback.format_exception(result))
    for name in ("prefill_samples_s", "decode_samples_s"):
        samples = getattr(result, name)
        if len(samples) != len(getattr(good, name)) or not all(0 < each < 60 for each in samples):
            return "BROKEN", f"{name}: {samples}"
    if (result.device, result.engine) != (good.device, good.engine):
        return "BROKEN", f"a result of {result.device}, {result.engine}"
    return "went on", ""


def aimed(
    table: Bench,
    fault: str,
    *,
    usual_s: float,
    seed: int,
    noticed: Callable[[], None] | None = None,
) -> Strike:
    """A strike at a random moment of `usual_s`, with its mending; `noticed` is called once it has
    struck."""
    draw = table.draw
    draw.seed(f"{fault} {seed}")
    at_s = draw.uniform(0, usual_s)
    if fault == IN_PUSH:
        at_s = 0.0
        table.arm_push(draw.choice([draw.randrange(1, 20_000), draw.randrange(1, 25_000_000)]))
    mend_after_s = draw.choice([None, draw.uniform(0.2, 2.0)])

    def strikes(bench: Bench) -> bool:
        has_struck = FAULTS[fault](bench)
        if has_struck and noticed is not None:
            noticed()
        return has_struck

    return Strike(table, strikes, at_s, mend_after_s)


def cleaned(table: Bench) -> list[str]:
    """What `phone clean` leaves on the phones, or why it fails."""
    try:
        for phone in (table.phone, *([table.other] if left_behind(table.other) else [])):
            table.adb.connect(phone)
            clean(Adb.find().choose(phone.serial))
            table.adb("disconnect", table.other.serial)
    except PhoneSearchError as error:
        return [f"clean: {error}"]
    left = [*left_behind(table.phone), *left_behind(table.other)]
    return [f"left behind: {left}"] if left else []


def one(
    table: Bench, fault: str, measure: Measure, good: Measurement, *, usual_s: float, seed: int
) -> Trial:
    """One trial, from a clean phone to a clean phone."""
    serial = table.phone.serial
    strike = aimed(table, fault, usual_s=usual_s, seed=seed)
    strike.start()
    result, seconds = attempt(measure, serial)
    was_swapped = table.is_swapped()
    on_other = left_behind(table.phone) if was_swapped else left_behind(table.other)
    strike.stop()
    outcome, said = judged(result, good)
    if outcome == "went on" and on_other:
        outcome, said = "BROKEN", f"a result, but on another phone there is {on_other}"
    if outcome == "went on" and strike.struck_at_s is None:
        outcome = "no strike"
    broken = [] if outcome != "BROKEN" else [said]
    if seed % 4 == 0:
        again, _ = attempt(measure, serial)
        if (after := judged(again, good))[0] != "went on":
            broken.append(f"the measurement after it: {after[1]}")
    broken += cleaned(table)
    return Trial(
        fault=fault,
        client=str(table.adb.program),
        seed=seed,
        at_s=strike.struck_at_s,
        mended_after_s=strike.mend_after_s,
        outcome="BROKEN" if broken else outcome,
        said="\n".join(broken) or said,
        seconds=seconds,
    )


def judged_run(ended: Ended) -> tuple[str, str]:
    """The outcome of one run, and what it said."""
    if ended.exit_code is None:
        return "BROKEN", f"hangs for more than {RUN_HANGS_AFTER_S:.0f} s: {ended.said}"
    if ended.exit_code == 0 and "Traceback" not in ended.said:
        return "went on", ""
    if ended.is_told and (GO_ON in ended.said or NOT_BEGUN in ended.said):
        message = ended.said.rpartition("\nerror: ")[2]
        return "clear error", f"{ended.error}: {message.strip()}"
    return "BROKEN", ended.said


def one_run(
    table: Bench, fault: str, searches: Searches, out: Path, *, usual_s: float, seed: int
) -> Trial:
    """One trial of a whole run, from a clean phone to a clean phone."""
    kind: Kind = "all" if seed % 2 else "front"
    kept: list[Kept] = []
    strike = aimed(
        table, fault, usual_s=usual_s, seed=seed, noticed=lambda: kept.append(Kept.of(out))
    )

    def meanwhile(is_running: Callable[[], bool]) -> None:
        while is_running() and not table.phone.place(FOLDER).is_dir():
            time.sleep(0.01)
        strike.start()

    ended = searches.type(*searches.command(kind, out), meanwhile=meanwhile)
    kept.append(Kept.of(out))
    strike.stop()
    outcome, said = judged_run(ended)
    broken = [said] if outcome == "BROKEN" else []
    was_begun = (out / "settings.yaml").is_file()
    again = ("run", "--resume", str(out)) if was_begun else searches.command(kind, out)
    resumed = searches.type(*again)
    if resumed.exit_code != 0:
        broken.append(f"--resume: {resumed.said}")
    else:
        broken += searches.problems(kind, out)
    kept.append(Kept.of(out))
    for earlier, later in itertools.pairwise(kept):
        broken += earlier.lost(later)
    if outcome == "went on" and strike.struck_at_s is None:
        outcome = "no strike"
    broken += cleaned(table)
    return Trial(
        fault=fault,
        client=str(table.adb.program),
        seed=seed,
        at_s=strike.struck_at_s,
        mended_after_s=strike.mend_after_s,
        outcome="BROKEN" if broken else outcome,
        said="\n".join(broken) or said,
        seconds=ended.seconds,
    )


@contextmanager
def runs(table: Bench) -> Iterator[tuple[Callable[[str, int], Trial], float]]:
    """What makes one trial of a fault with a seed, and how long the phone is usually used."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        searches = Searches(folder, table.phone.serial)
        searches.prepare()
        usual_s = math.inf
        for kind in ("front", "all"):
            out = folder / "good"
            cleaned(table)
            contact: list[float] = []

            def meanwhile(is_running: Callable[[], bool], contact: list[float] = contact) -> None:
                while is_running() and not table.phone.place(FOLDER).is_dir():
                    time.sleep(0.01)
                contact.append(time.monotonic())

            ended = searches.type(*searches.command(kind, out), meanwhile=meanwhile)
            usual_s = min(usual_s, time.monotonic() - contact[0])
            searches.good = json.loads(Kept.of(out).lines[0])
            problems = searches.problems(kind, out)
            assert not problems, (ended.said, problems)
        cleaned(table)

        def trial(fault: str, seed: int) -> Trial:
            return one_run(table, fault, searches, folder / "run", usual_s=usual_s, seed=seed)

        yield trial, usual_s


@contextmanager
def measurements(table: Bench, level: str) -> Iterator[tuple[Callable[[str, int], Trial], float]]:
    """Likewise, of single measurements."""
    with measurement(level) as measure:
        good = measure(table.phone.serial)
        clean(Adb.find().choose(table.phone.serial))
        usual_s = math.inf
        for _ in range(3):
            usual_s = min(usual_s, attempt(measure, table.phone.serial)[1])
            clean(Adb.find().choose(table.phone.serial))

        def trial(fault: str, seed: int) -> Trial:
            return one(table, fault, measure, good, usual_s=usual_s, seed=seed)

        yield trial, usual_s


def main() -> None:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--adb", choices=("debian", "adbutils"), default="debian")
    parser.add_argument("--only", choices=tuple(FAULTS), action="append")
    parser.add_argument("--level", choices=(*LEVELS, "run"), default="session")
    typed = parser.parse_args()

    trials: list[Trial] = []
    with ExitStack() as stack:
        table = stack.enter_context(bench(typed.adb, typed.seed))
        made, usual_s = stack.enter_context(
            runs(table) if typed.level == "run" else measurements(table, typed.level)
        )
        what = "run, from its first contact on," if typed.level == "run" else "measurement"
        print(f"{typed.adb}: a {what} with everything to push takes {usual_s:.1f} s", flush=True)
        start = time.monotonic()
        for fault in typed.only or FAULTS:
            for number in range(2 * typed.trials):
                done = [each for each in trials if each.fault == fault]
                if sum(each.outcome != "no strike" for each in done) == typed.trials:
                    break
                seed = typed.seed * 1000 + number
                trial = made(fault, seed)
                trials.append(trial)
                if trial.outcome == "BROKEN":
                    print(f"{fault}, seed {seed}: {trial.said}", file=sys.stderr)
            _print_row(fault, [trial for trial in trials if trial.fault == fault])
    print(f"{len(trials)} trials in {time.monotonic() - start:.0f} s")
    print(json.dumps([asdict(trial) for trial in trials]))


def _print_row(fault: str, trials: list[Trial]) -> None:
    counts = collections.Counter(trial.outcome for trial in trials)
    kinds = collections.Counter(
        trial.said.partition(":")[0] for trial in trials if trial.outcome == "clear error"
    )
    longest = max(trial.seconds for trial in trials)
    outcomes = ", ".join(f"{counts[name]} {name}" for name in sorted(counts))
    errors = ", ".join(f"{name} {count}" for name, count in kinds.most_common())
    print(f"{fault:26} {outcomes}; longest {longest:.0f} s; {errors}", flush=True)


if __name__ == "__main__":
    main()
