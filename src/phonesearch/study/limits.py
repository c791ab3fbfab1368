"""The constraints of a run, as a question to ask of one candidate."""

from __future__ import annotations

from phonesearch.candidate.config import Candidate
from phonesearch.device.profile import DeviceProfile
from phonesearch.device.speed import Speed
from phonesearch.study.settings import RunSettings
from phonesearch.study.stopwatch import Turn, predicted, turn_memory_bytes, weight_bits
from phonesearch.units import format_bytes, format_seconds


class Limits:
    """Answers whether candidates meet a run's constraints, and remembers how near they came.

    Args:
        settings: What the run was asked.
        profile: Its device. Where that is measured, not predicted, only memory can be checked
            before a candidate was timed.
    """

    def __init__(self, settings: RunSettings, profile: DeviceProfile) -> None:
        self._settings = settings
        self._profile = profile
        self._turn = Turn(
            prompt_tokens=settings.prompt_tokens, generate_tokens=settings.generate_tokens
        )
        self._nearest: dict[str, tuple[float, str]] = {}

    def accepts(self, candidate: Candidate) -> bool:
        """Whether a candidate meets all that can be told of it without a stopwatch."""
        constraints = self._settings.constraints
        speed = None
        if not self._profile.measured and (
            constraints.max_ttft_s or constraints.min_speed_tokens_per_s
        ):
            speed = predicted(
                candidate, self._profile, engine=self._settings.engine, turn=self._turn
            ).speed
        bits = weight_bits(self._profile, self._settings.engine)
        memory = turn_memory_bytes(candidate, self._turn, weight_bits=bits)
        return not self.broken(memory, speed)

    def broken(self, peak_memory_bytes: int, speed: Speed | None) -> tuple[str, ...]:
        """What a candidate breaks, one sentence each; empty when it meets all.

        Args:
            peak_memory_bytes: Counted memory of the turn.
            speed: Predicted or measured times; None, where they are not known yet, breaks
                nothing.
        """
        constraints, objective = self._settings.constraints, self._settings.speed
        found = []
        if constraints.max_memory_bytes is not None:
            excess = peak_memory_bytes / constraints.max_memory_bytes
            text = (
                f"needs {format_bytes(peak_memory_bytes)} at its peak, where --max-memory is "
                f"{format_bytes(constraints.max_memory_bytes)}"
            )
            found += self._judge("memory", excess, text)
        if speed is not None and constraints.max_ttft_s is not None:
            excess = speed.ttft.value_s / constraints.max_ttft_s
            text = (
                f"takes {format_seconds(speed.ttft.value_s)} to the first token, where "
                f"--max-ttft is {format_seconds(constraints.max_ttft_s)}"
            )
            found += self._judge("ttft", excess, text)
        if speed is not None and constraints.min_speed_tokens_per_s is not None:
            reached = speed.tokens_per_s(objective)[0]
            excess = constraints.min_speed_tokens_per_s / reached
            text = (
                f"reaches {reached:.4g} tokens/s ({objective}), where --min-speed is "
                f"{constraints.min_speed_tokens_per_s:.4g}"
            )
            found += self._judge("speed", excess, text)
        return tuple(found)

    def _judge(self, what: str, excess: float, text: str) -> list[str]:
        if excess < self._nearest.get(what, (float("inf"), ""))[0]:
            self._nearest[what] = (excess, text)
        return [text] if excess > 1 else []

    def why_none(self, tried: int) -> str:
        """Message for a run in which no candidate was accepted."""
        out_of_reach = [text for excess, text in self._nearest.values() if excess > 1]
        if out_of_reach:
            reason = "; ".join(f"the nearest one {text}" for text in out_of_reach)
        else:
            reason = "each constraint can be met alone, but not all of them together: " + "; ".join(
                f"the best {text}" for _, text in self._nearest.values()
            )
        return (
            f"None of {tried:,} architectures meets the constraints: {reason}. "
            "Loosen the constraint, or lower --budget."
        )
