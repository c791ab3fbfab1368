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

    python benchmarks/phone_faults.py [--trials 20] [--seed 1] [--adb debian|adbutils]
        [--level session|backend] [--only "disk full"]
"""

from __future__ import annotations

import argparse
import collections
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

from fakephone_faults import FAULTS, Bench, Strike, left_behind
from fakephone_measure import LEVELS, measurement
from fakephone_rig import adb_server, serve

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


def one(
    table: Bench, fault: str, measure: Measure, good: Measurement, *, usual_s: float, seed: int
) -> Trial:
    """One trial, from a clean phone to a clean phone."""
    draw = table.draw
    draw.seed(f"{fault} {seed}")
    serial = table.phone.serial
    at_s = draw.uniform(0, usual_s)
    if fault == IN_PUSH:
        at_s = 0.0
        table.arm_push(draw.choice([draw.randrange(1, 20_000), draw.randrange(1, 25_000_000)]))
    mend_after_s = draw.choice([None, draw.uniform(0.2, 2.0)])
    strike = Strike(table, FAULTS[fault], at_s, mend_after_s)
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
    try:
        for phone in (table.phone, *([table.other] if left_behind(table.other) else [])):
            table.adb.connect(phone)
            clean(Adb.find().choose(phone.serial))
            table.adb("disconnect", table.other.serial)
    except PhoneSearchError as error:
        broken.append(f"clean: {error}")
    left = [*left_behind(table.phone), *left_behind(table.other)]
    if left:
        broken.append(f"left behind: {left}")
    return Trial(
        fault=fault,
        client=str(table.adb.program),
        seed=seed,
        at_s=strike.struck_at_s,
        mended_after_s=mend_after_s,
        outcome="BROKEN" if broken else outcome,
        said="\n".join(broken) or said,
        seconds=seconds,
    )


def main() -> None:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--adb", choices=("debian", "adbutils"), default="debian")
    parser.add_argument("--only", choices=tuple(FAULTS), action="append")
    parser.add_argument("--level", choices=LEVELS, default="session")
    typed = parser.parse_args()

    trials: list[Trial] = []
    with bench(typed.adb, typed.seed) as table, measurement(typed.level) as measure:
        good = measure(table.phone.serial)
        clean(Adb.find().choose(table.phone.serial))
        usual_s = math.inf
        for _ in range(3):
            usual_s = min(usual_s, attempt(measure, table.phone.serial)[1])
            clean(Adb.find().choose(table.phone.serial))
        head = f"{typed.adb}: a measurement with everything to push takes {usual_s:.1f} s"
        print(head, flush=True)
        start = time.monotonic()
        for fault in typed.only or FAULTS:
            for number in range(2 * typed.trials):
                done = [each for each in trials if each.fault == fault]
                if sum(each.outcome != "no strike" for each in done) == typed.trials:
                    break
                seed = typed.seed * 1000 + number
                trial = one(table, fault, measure, good, usual_s=usual_s, seed=seed)
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
