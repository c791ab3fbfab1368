"""Which devices ship, which engines each has, and where a coefficient is taken from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from phonesearch.catalog import fold
from phonesearch.device.fitted import Prior


@dataclass(frozen=True, slots=True, kw_only=True)
class Like:
    """A coefficient of another chip, scaled by what is published of both."""

    soc_id: str
    engine: str
    scale: float
    """How much faster this chip is than that one."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePlan:
    """One shipped device."""

    name: str
    """As `soc_id` in the tables of speeds."""
    aliases: tuple[str, ...] = ()
    """What people call it who do not know the chip."""
    description: str
    soc: str
    engines: tuple[str, ...]
    """The first one is the default."""
    matmul_like: Mapping[str, Like | Prior] = field(default_factory=dict)
    """By engine: the matmul rate where no prefill is published."""
    calls_like: Mapping[str, Like] = field(default_factory=dict)
    """By engine: the cost of a call where the rows cannot tell it."""


_ET4: Final = "executorch-xnnpack-4bit"
_ET4_META: Final = "executorch-xnnpack-meta-4bit"
_ET16: Final = "executorch-xnnpack-16bit"
_ET16_2025: Final = "executorch-xnnpack-2025-16bit"
_OLD: Final = "llamacpp-2024-4bit"
_Q4_0: Final = "llamacpp-q4_0-4bit"
_Q4_K_M: Final = "llamacpp-q4_k_m-4bit"
_Q8_0: Final = "llamacpp-q8_0-8bit"
_MNN: Final = "mnn-4bit"
_QNN: Final = "qnn-genie-4bit"

_GEN3_GHZ: Final = 3.3 + 3 * 3.15 + 2 * 2.96
_GEN3_TEXT: Final = "(3.3 + 3 x 3.15 + 2 x 2.96) GHz"
_GEN5_GHZ: Final = 2 * 4.74 + 4 * 3.63
_GEN5_TEXT: Final = "(2 x 4.74 + 4 x 3.63) GHz"


def _like_gen3(scale: float, reason: str) -> dict[str, Like | Prior]:
    """The matmul rates of Snapdragon 8 Gen 3 for both widths of ExecuTorch, from the builds
    that a prefill is published of."""
    return {
        engine: Like(soc_id="snapdragon8gen3", engine=build, scale=scale, reason=reason)
        for engine, build in ((_ET4, _ET4_META), (_ET4_META, _ET4_META), (_ET16, _ET16_2025))
    }


def _same_chip(soc_id: str, engine: str) -> Like:
    return Like(soc_id=soc_id, engine=engine, scale=1.0, reason="the same chip, another build")


def _calls_of_elite(ghz: float | None, *engines: str) -> dict[str, Like]:
    """Seconds per call of llama.cpp on Snapdragon 8 Elite, by the clock of the fastest core."""
    reason = "unscaled, as no clock of this chip is carried"
    if ghz is not None:
        reason = f"scaled by the clock of the fastest core, {ghz:g} over 4.32 GHz"
    return {
        engine: Like(
            soc_id="snapdragon8elite",
            engine=_Q4_0,
            scale=1.0 if ghz is None else ghz / 4.32,
            reason=reason,
        )
        for engine in engines
    }


_QNN_PREFILL: Final = Prior(
    value=5.2e12,
    source=(
        "prior: geometric mean of 2 x 0.973e9 weights x 1952 tokens/s and 2 x 6.98e9 x 509, the "
        "prefill of Llama 3.2 1B and Llama 3.1 8B with PowerServe on the NPU of Snapdragon 8 "
        "Elite (rows 294 and 295); Genie publishes no prefill rate"
    ),
)

_PLANS: Final = (
    DevicePlan(
        name="snapdragon8gen3",
        description="Snapdragon 8 Gen 3 phones (OnePlus 12, Xiaomi 14), CPU",
        soc="Qualcomm Snapdragon 8 Gen 3 (SM8650)",
        engines=(_ET4, _ET4_META, _ET16, _ET16_2025, _OLD),
        matmul_like={
            _ET4: _same_chip("snapdragon8gen3", _ET4_META),
            _ET16: _same_chip("snapdragon8gen3", _ET16_2025),
        },
        calls_like={_ET16_2025: _same_chip("snapdragon8gen3", _ET16)},
    ),
    DevicePlan(
        name="snapdragon8plusgen1",
        description="Snapdragon 8+ Gen 1 phones (Xiaomi 12S), CPU",
        soc="Qualcomm Snapdragon 8+ Gen 1 (SM8475)",
        engines=(_OLD,),
    ),
    DevicePlan(
        name="snapdragon8gen1",
        description="Snapdragon 8 Gen 1 phones (Xiaomi 12), CPU",
        soc="Qualcomm Snapdragon 8 Gen 1 (SM8450)",
        engines=(_MNN,),
        calls_like={
            _MNN: Like(
                soc_id="snapdragon8gen3",
                engine=_ET4,
                scale=3.0 / 3.3,
                reason=(
                    "another engine, scaled by the clock of the fastest core, 3.0 over 3.3 GHz"
                ),
            )
        },
    ),
    DevicePlan(
        name="snapdragon8gen2",
        description="Snapdragon 8 Gen 2 phones (Samsung Galaxy S23), CPU",
        soc="Qualcomm Snapdragon 8 Gen 2 (SM8550)",
        engines=(_Q4_0, _Q4_K_M, _Q8_0),
        calls_like=_calls_of_elite(3.19, _Q4_0, _Q4_K_M, _Q8_0),
    ),
    DevicePlan(
        name="snapdragon8elite",
        description="Snapdragon 8 Elite phones (OnePlus 13), CPU and NPU",
        soc="Qualcomm Snapdragon 8 Elite (SM8750)",
        engines=(_Q4_0, _QNN),
        matmul_like={
            _Q4_0: Like(
                soc_id="snapdragon8elitegen5",
                engine=_Q4_0,
                scale=(2 * 4.32 + 4 * 3.53) / _GEN5_GHZ,
                reason=(
                    "scaled by the clocks of six cores added up, (2 x 4.32 + 4 x 3.53) over "
                    f"{_GEN5_TEXT}"
                ),
            ),
            _QNN: _QNN_PREFILL,
        },
    ),
    DevicePlan(
        name="snapdragon8elitegen5",
        description="Snapdragon 8 Elite Gen 5 phones (Galaxy S26, a POCO), CPU and NPU",
        soc="Qualcomm Snapdragon 8 Elite Gen 5 (SM8850)",
        engines=(_Q4_0, _Q4_K_M, _Q8_0, _QNN),
        matmul_like={_QNN: _QNN_PREFILL},
        calls_like=_calls_of_elite(4.74, _Q4_0, _Q4_K_M, _Q8_0),
    ),
    DevicePlan(
        name="snapdragon888",
        description="Snapdragon 888 phones (Meizu 18 Pro), CPU",
        soc="Qualcomm Snapdragon 888 (SM8350)",
        engines=(_OLD,),
    ),
    DevicePlan(
        name="snapdragonxelite",
        description="Snapdragon X Elite laptops, CPU and NPU",
        soc="Qualcomm Snapdragon X Elite (X1E)",
        engines=(_Q4_0, _QNN),
        matmul_like={
            _Q4_0: Like(
                soc_id="snapdragon8elitegen5",
                engine=_Q4_0,
                scale=(8 * 4.0 + 2 * 3.4) / _GEN5_GHZ,
                reason=(
                    "scaled by the clocks of the ten and six cores used added up, (8 x 4.0 + 2 x "
                    f"3.4) over {_GEN5_TEXT}"
                ),
            ),
            _QNN: _QNN_PREFILL,
        },
        calls_like=_calls_of_elite(4.0, _Q4_0),
    ),
    DevicePlan(
        name="dimensity8400",
        description="MediaTek Dimensity 8400 phones (POCO X7 series), CPU",
        soc="MediaTek Dimensity 8400 (MT6899)",
        engines=(_Q4_0, _Q4_K_M, _Q8_0),
        calls_like=_calls_of_elite(None, _Q4_0, _Q4_K_M, _Q8_0),
    ),
    DevicePlan(
        name="tensor_g2",
        aliases=("pixel7", "pixel7pro"),
        description="Google Pixel 7 and 7 Pro, CPU",
        soc="Google Tensor G2",
        engines=(_OLD,),
    ),
    DevicePlan(
        name="tensor_g5",
        aliases=("pixel10",),
        description="Google Pixel 10, CPU",
        soc="Google Tensor G5",
        engines=(_ET4, _ET4_META, _ET16),
        calls_like={_ET4_META: _same_chip("tensor_g5", _ET4)},
        matmul_like=_like_gen3(
            (3.78 + 5 * 3.05) / _GEN3_GHZ,
            "scaled by the clocks of big and middle cores added up, (3.78 + 5 x 3.05) over "
            f"{_GEN3_TEXT}; both have one Cortex-X4 and five Cortex-A7xx",
        ),
    ),
    DevicePlan(
        name="a15",
        aliases=("iphonese3", "iphone13pro"),
        description="Apple A15 phones (iPhone SE 3, 13 Pro), CPU",
        soc="Apple A15",
        engines=(_ET4, _ET16),
        matmul_like=_like_gen3(
            (2 * 3.23 + 4 * 1.82) / _GEN3_GHZ,
            "scaled by the clocks of all cores here and of the big and middle ones there added "
            f"up, (2 x 3.23 + 4 x 1.82) over {_GEN3_TEXT}; work done in a clock differs",
        ),
    ),
    DevicePlan(
        name="a19pro",
        aliases=("iphone17pro",),
        description="Apple A19 Pro phones (iPhone 17 Pro), CPU",
        soc="Apple A19 Pro",
        engines=(_ET4, _ET16),
        matmul_like=_like_gen3(
            1.0,
            "unscaled, as no clock of this chip is carried and its peak memory bandwidth is "
            "estimated the same (76.8 against 76.5 GB/s)",
        ),
    ),
    DevicePlan(
        name="bcm2712",
        aliases=("raspberrypi5", "pi5", "rpi5"),
        description="Raspberry Pi 5, CPU",
        soc="Broadcom BCM2712 (Raspberry Pi 5)",
        engines=(_Q4_0, _Q8_0),
        calls_like={
            _Q8_0: Like(
                soc_id="bcm2712",
                engine=_Q4_0,
                scale=1.0,
                reason="the same chip at another width",
            )
        },
    ),
)

DEVICE_PLANS: Final[dict[str, DevicePlan]] = {plan.name: plan for plan in _PLANS}
"""The shipped devices, by name, but for `host`, which is measured."""


def device_plan(name: str) -> DevicePlan | None:
    """The shipped device of that name or alias, as `catalog.resolve` finds it; None without."""
    if name in DEVICE_PLANS:
        return DEVICE_PLANS[name]
    wanted = fold(name)
    return next((plan for plan in _PLANS if wanted in map(fold, plan.aliases)), None)
