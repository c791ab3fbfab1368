"""How a model is measured on a phone so that the number can be believed.

Cool down; measure a small reference model; check the logits of the model; warm up, time, and look
whether the phone slowed down meanwhile; measure the reference again. When the reference moved, the
measurement between is thrown away. The reference after one model is the one before the next.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from phonesearch.candidate.config import Candidate
from phonesearch.errors import PhoneNotFitError, UnsteadyPhoneError, WrongLogitsError
from phonesearch.onnx_export.recipe import Parts, write_recipe
from phonesearch.onnx_export.settings import GraphSettings
from phonesearch.onnx_export.write import export
from phonesearch.phone.clock import Clock
from phonesearch.phone.conditions import Tried, conditions
from phonesearch.phone.device import PhoneReport, glance, survey
from phonesearch.phone.hazards import hazards
from phonesearch.phone.judge import Limits, ReferenceTime, slowed, too_warm, worst_spread
from phonesearch.phone.logits import CHECKED_CAPACITY, Agreement, HostGraph, check_logits
from phonesearch.phone.pushed import PhoneModel, RunRequest
from phonesearch.phone.runner_output import RunReport
from phonesearch.phone.runtime import runtime_hazards
from phonesearch.phone.say import Say, say_nothing
from phonesearch.phone.session import Session
from phonesearch.timing.exchange import Stretch
from phonesearch.timing.host import num_physical_cores

REFERENCE: Final = Candidate(
    vocab_size=32000,
    hidden_size=384,
    intermediate_size=1024,
    num_hidden_layers=11,
    num_attention_heads=6,
    num_key_value_heads=2,
    head_dim=64,
    max_position_embeddings=512,
)
"""30M parameters: a second on a phone, and large enough to miss its caches."""
REFERENCE_SEED: Final = 1
_REFERENCE_STRETCHES: Final = (
    Stretch(new_tokens=128, past_tokens=0),
    Stretch(new_tokens=1, past_tokens=128, steps=16, settling_steps=16),
)
_LINE_INTERVAL_S: Final = 30.0
"""Between lines on a phone that cools."""
_WAITED_FOR: Final = ("hot", "leftovers")
"""Hazards that pass by themselves, or that a session ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """The model that tells whether the phone is as fast as before."""

    candidate: Candidate = REFERENCE
    stretches: tuple[Stretch, Stretch] = _REFERENCE_STRETCHES
    """A prefill, and decode steps."""
    rounds: int = 5
    warmup_rounds: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One model, and how it was measured."""

    report: RunReport
    conditions: dict[str, Any]


class Bench:
    """A phone on which models are measured, one after the other; a context manager."""

    def __init__(
        self,
        session: Session,
        *,
        parts: Parts,
        folder: Path,
        cpus: tuple[int, ...] | None = None,
        num_threads: int | None = None,
        reference: Reference | None = None,
        limits: Limits | None = None,
        max_seconds: int = 600,
        clock: Clock | None = None,
        say: Say = say_nothing,
    ) -> None:
        """Nothing is asked of the phone before the `with` block.

        Args:
            session: The phone, opened.
            parts: Of recipes.
            folder: Where the reference is written on this computer.
            cpus: Cores to run on; by default the prime and the big ones.
            num_threads: By default as many as cores.
            reference: By default one of 30M parameters.
            limits: Beyond which measurements are done anew.
            max_seconds: Of one run, loading included.
            clock: How waiting is done.
            say: Told what is waited for, and what is measured anew.
        """
        self.session = session
        self.limits = limits or Limits()
        self.reference = reference or Reference()
        self._parts = parts
        self._folder = folder
        self._given_cpus = cpus
        self._given_threads = num_threads
        self._max_seconds = max_seconds
        self._clock = clock or Clock()
        self._say = say
        self._stack = ExitStack()
        self._start: PhoneReport | None = None
        self._reference_folder = ""
        self._first: ReferenceTime | None = None
        self._last: ReferenceTime | None = None
        self._reference_agreement: Agreement | None = None

    def __enter__(self) -> Self:
        """Look at the phone.

        Raises:
            PhoneNotFitError: If it is of a kind, or in a state, that is not measured.
            PhoneError: If it cannot be asked.
        """
        self._start = self._fit_report()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the reference from the phone."""
        self._stack.close()

    @property
    def start(self) -> PhoneReport:
        """The phone when this began."""
        assert self._start is not None, "only within the `with` block"
        return self._start

    @property
    def cpus(self) -> tuple[int, ...]:
        """Cores that models run on."""
        return self._given_cpus or self.start.default_cores

    @property
    def num_threads(self) -> int:
        """Threads inside an operator."""
        return self._given_threads or len(self.cpus)

    def choose(self, cpus: tuple[int, ...], num_threads: int) -> None:
        """Run on other cores from now on; the reference is measured anew."""
        self._given_cpus, self._given_threads = cpus, num_threads
        self._first = self._last = None

    def request(
        self,
        stretches: tuple[Stretch, ...],
        *,
        warmup_rounds: int,
        rounds: int,
        num_threads: int | None = None,
    ) -> RunRequest:
        """A run on the cores of this bench."""
        return RunRequest(
            stretches=stretches,
            num_threads=num_threads or self.num_threads,
            cpus=self.cpus,
            warmup_rounds=warmup_rounds,
            rounds=rounds,
            max_seconds=self._max_seconds,
        )

    def measure(
        self, model: PhoneModel, request: RunRequest, *, host_graph: HostGraph | None
    ) -> Measured:
        """Time a model, prefill first and decode steps last among its stretches.

        Args:
            model: What to lay on the phone.
            request: What to run.
            host_graph: The same model on this computer, to check its logits against; None to rely
                on those of the reference, and on the numbers being finite.

        Raises:
            PhoneNotFitError: If the phone is in no state to be measured.
            UnsteadyPhoneError: If it does not cool down or come to rest.
            WrongLogitsError: If it computes other numbers than this computer.
            PhoneError: If it cannot be run.
        """
        before = self._fit_report()
        tried = Tried()
        self._last = self._last or self.time_reference(tried)
        capacity = max(request.capacity, CHECKED_CAPACITY)
        with self.session.placed(model, capacity=capacity) as folder:
            agreement = None
            if host_graph is not None:
                agreement = self._check(folder, host_graph, request)
            for number in range(1, self.limits.tries + 1):
                tried.number = number
                first, earlier = self._first or self._last, self._last
                report, after = self.steady(folder, request, tried)
                later = self._last = self.time_reference(tried)
                moved = max(earlier.change(later), first.change(later), key=abs)
                if abs(moved) <= self.limits.reference:
                    return Measured(
                        report=report,
                        conditions=conditions(
                            self.session,
                            request=request,
                            report=report,
                            before=before,
                            after=after,
                            tried=tried,
                            agreement=agreement,
                            reference_agreement=self._reference_agreement,
                            references=(first, earlier, later),
                            reference=asdict(self.reference.candidate),
                        ),
                    )
                self._note(
                    tried,
                    f"thrown away: the reference moved by {moved:+.1%}",
                    is_anew=number < self.limits.tries,
                )
        raise UnsteadyPhoneError(
            f"The phone does not come to rest: a reference model that is timed before and after "
            f"moved by {moved:+.1%} (allowed: {self.limits.reference:.0%}), {self.limits.tries} "
            "times in a row. Close apps, let it cool, keep it still and on the same charger, and "
            "try again."
        )

    def steady(
        self, folder: str, request: RunRequest, tried: Tried
    ) -> tuple[RunReport, PhoneReport]:
        """A run of a model that was placed, in which the phone did not slow down; and the phone
        after it.

        Raises:
            UnsteadyPhoneError: If it does not cool down, or slows down each time.
            WrongLogitsError: If the model gives numbers that are not finite.
            PhoneError: If it cannot be run.
        """
        has_scattered = False
        why = ""
        for number in range(1, self.limits.tries + 1):
            before = self._cool()
            report = self.session.run(folder, request)
            if not report.is_finite:
                raise WrongLogitsError(
                    "The model gave numbers on the phone that are not finite, so its times say "
                    "nothing. Set up another ONNX Runtime with `phonesearch phone setup`."
                )
            after = self._glance()
            why = slowed(report, before, after, self.limits) or ""
            if why:
                self._note(tried, f"throttled: {why}", is_anew=number < self.limits.tries)
                tried.throttled += 1
                continue
            scatter = worst_spread(report)
            if scatter > self.limits.spread:
                is_last = has_scattered or number == self.limits.tries
                verb = "kept" if is_last else "repeated"
                self._note(tried, f"{verb}: rounds {scatter:.1%} apart", is_anew=not is_last)
                if not is_last:
                    has_scattered = True
                    continue
            return report, after
        raise UnsteadyPhoneError(
            f"The phone slows down while it is measured: {why}. Let it cool, out of its case and "
            "out of the sun, unplug what charges it fast, and try again."
        )

    def time_reference(self, tried: Tried | None = None) -> ReferenceTime:
        """Time the reference model; before the first time its logits are checked.

        Args:
            tried: Told what had to be done anew.

        Raises:
            PhoneError: As `steady`, and if its logits are wrong.
        """
        if not self._reference_folder:
            self._place_reference()
        request = self.request(
            self.reference.stretches,
            warmup_rounds=self.reference.warmup_rounds,
            rounds=self.reference.rounds,
        )
        report, _ = self.steady(self._reference_folder, request, Tried(of=tried))
        found = ReferenceTime.of(report)
        self._first = self._first or found
        return found

    def _place_reference(self) -> None:
        """And check its logits, which stand for those of models too large for that."""
        candidate, seed = self.reference.candidate, REFERENCE_SEED
        recipe = write_recipe(
            candidate, self._folder, GraphSettings(), parts=self._parts, seed=seed
        )
        capacity = max(*(one.longest for one in self.reference.stretches), CHECKED_CAPACITY)
        folder = self._stack.enter_context(
            self.session.placed(PhoneModel.of_recipe(recipe), capacity=capacity)
        )
        request = self.request(self.reference.stretches, warmup_rounds=0, rounds=1)
        self._reference_agreement = self._check(folder, host_graph(candidate, seed), request)
        self._reference_folder = folder

    def _check(self, folder: str, graph: HostGraph, request: RunRequest) -> Agreement:
        return check_logits(
            self.session,
            folder,
            graph,
            request=request,
            limits=self.limits,
            host_threads=num_physical_cores(),
        )

    def _fit_report(self) -> PhoneReport:
        link = self.session.link
        report = link.held(lambda: survey(link))
        found = [
            *runtime_hazards(self.session.library, report.identity),
            *(one for one in hazards(report, push_bytes=0) if one.name not in _WAITED_FOR),
        ]
        refused = [str(one) for one in found if one.severity == "refuse"]
        if refused:
            raise PhoneNotFitError(refused)
        return report

    def _glance(self) -> PhoneReport:
        link = self.session.link
        return link.held(lambda: glance(link))

    def _note(self, tried: Tried, text: str, *, is_anew: bool) -> None:
        tried.note(text)
        if is_anew:
            self._say(f"Measuring anew ({text})")

    def _cool(self) -> PhoneReport:
        end = self._clock.now() + self.limits.cool_patience_s
        next_line = self._clock.now()
        while True:
            report = self._glance()
            why = too_warm(report, self.start, self.limits)
            if why is None:
                return report
            if self._clock.now() >= end:
                raise UnsteadyPhoneError(
                    f"The phone did not cool down within {self.limits.cool_patience_s:.0f} s: "
                    f"{why}. Let it lie with its screen off, out of its case and out of the sun; "
                    "unplug what charges it fast."
                )
            if self._clock.now() >= next_line:
                next_line = self._clock.now() + _LINE_INTERVAL_S
                self._say(f"Waiting for the phone to cool: {why}")
            self._clock.sleep(self.limits.cool_poll_s)


def host_graph(candidate: Candidate, seed: int) -> HostGraph:
    """Exports the candidate with random weights of that seed, for float32 arithmetic."""

    def write(folder: Path) -> Path:
        settings = GraphSettings(accuracy_level=1)
        return export(candidate, folder / "host", settings, seed=seed).path

    return write
