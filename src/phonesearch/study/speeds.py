"""Predicted speeds of very many candidates, for a sampler that looks at all before it takes one.

All layers of a candidate are alike, so the time of a turn is that of one layer more than once: what
one layer adds is the difference of the predictions for two layers and for one. That is no
approximation, see the test, and costs a tenth of building the whole graph.
"""

from __future__ import annotations

from dataclasses import replace

from phonesearch.candidate.config import Candidate
from phonesearch.device.profile import DeviceProfile
from phonesearch.device.speed import Span, Speed
from phonesearch.study.settings import RunSettings
from phonesearch.study.stopwatch import Turn, predicted


class Speeds:
    """Answers what `stopwatch.predicted` would; keeps what it answered.

    Args:
        settings: Of the run: engine and turn.
        profile: Its device, not one that is measured.
    """

    def __init__(self, settings: RunSettings, profile: DeviceProfile) -> None:
        self._engine, self._profile = settings.engine, profile
        self._turn = Turn(
            prompt_tokens=settings.prompt_tokens, generate_tokens=settings.generate_tokens
        )
        self._known: dict[Candidate, Speed] = {}

    def of(self, candidate: Candidate) -> Speed:
        """The predicted speed of a candidate.

        Raises:
            ProfileError: If the profile cannot tell.
        """
        if candidate not in self._known:
            self._known[candidate] = self._predicted(candidate)
        return self._known[candidate]

    def _predicted(self, candidate: Candidate) -> Speed:
        one, two = (self._whole(replace(candidate, num_hidden_layers=count)) for count in (1, 2))
        more = candidate.num_hidden_layers - 1

        def span(name: str) -> Span:
            first: Span = getattr(one, name)
            second: Span = getattr(two, name)
            return Span(
                value_s=first.value_s + more * (second.value_s - first.value_s),
                low_s=first.low_s + more * (second.low_s - first.low_s),
                high_s=first.high_s + more * (second.high_s - first.high_s),
            )

        return replace(one, ttft=span("ttft"), tpot=span("tpot"), turn=span("turn"))

    def _whole(self, candidate: Candidate) -> Speed:
        return predicted(candidate, self._profile, engine=self._engine, turn=self._turn).speed
