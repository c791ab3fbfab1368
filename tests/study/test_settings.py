from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from phonesearch.errors import SettingsError
from phonesearch.study.settings import Constraints, RunSettings, default_jobs


@pytest.mark.parametrize(
    ("field", "value"),
    [("budget", 0), ("trials", 0), ("prompt_tokens", 0), ("jobs", 0), ("generate_tokens", 1)],
)
def test_settings_out_of_range_are_refused_by_name(
    settings: RunSettings, field: str, value: int
) -> None:
    with pytest.raises(SettingsError, match=f"`{field}` must be"):
        replace(settings, **{field: value})


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_a_limit_that_nothing_can_meet_is_refused(value: float) -> None:
    with pytest.raises(SettingsError, match="max_ttft_s"):
        Constraints(max_ttft_s=value)


def test_a_gpu_trains_one_proxy_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert default_jobs() == 1
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert 1 <= default_jobs() <= 8
