"""A power limit slows a device as published sweeps of the limit say, and widens ranges by their spread."""

import pytest

from advisor.backends.deployment import baseline
from advisor.estimate.estimator import Estimator
from advisor.estimate.machines.catalogue import catalogue_machine
from advisor.estimate.machines.power_limit import least_share, power_limit_of, under_power_limit, with_power_limit
from advisor.planning.target import resolve_target
from advisor.profiles.engines import load_engine
from advisor.profiles.errors import AdvisorError, ErrorAction
from advisor.profiles.evidence import table
from advisor.profiles.hardware import Hardware, load_hardware
from advisor.profiles.metrics import Metrics
from advisor.profiles.model_store import find_model
from advisor.profiles.request import Workload

CARD = load_hardware("rtx-3090")
"""350 W by its data sheet."""
TIMED = ("ttft_ms_mean", "tpot_ms_mean", "throughput_tok_s", "prefill_tok_s")


def predicted(hardware: Hardware, engine: str = "llama.cpp") -> dict[str, tuple[float, float, float]]:
    """Value and range of each metric of a small model on a device."""
    profile = load_engine(engine)
    model = find_model("meta-llama/Llama-3.2-1B")
    estimator = Estimator(catalogue_machine(hardware, profile), profile)
    workload = Workload(prompt_tokens=2048, output_tokens=64, concurrency=1)
    metrics: Metrics = estimator.metrics(baseline(model, max_sequences=1, engine=engine), workload)
    return {name: (value.value, value.low, value.high) for name, value in metrics.present().items()}


def test_the_full_power_changes_nothing() -> None:
    assert under_power_limit(CARD) == CARD
    assert predicted(with_power_limit(CARD, 350)) == predicted(CARD)


@pytest.mark.parametrize("engine", ["llama.cpp", "vllm"])
def test_a_lower_limit_is_slower_in_products_more_than_in_reading(engine: str) -> None:
    at = {watts: predicted(with_power_limit(CARD, watts), engine) for watts in (350, 300, 250, 200, 150, 100)}
    for higher, lower in zip(list(at)[:-1], list(at)[1:], strict=True):
        assert at[lower]["ttft_ms_mean"][0] > at[higher]["ttft_ms_mean"][0]
        assert at[lower]["tpot_ms_mean"][0] > at[higher]["tpot_ms_mean"][0]
    assert at[200]["ttft_ms_mean"][0] / at[350]["ttft_ms_mean"][0] > at[200]["tpot_ms_mean"][0] / at[350]["tpot_ms_mean"][0]


def test_memory_has_nothing_to_do_with_power() -> None:
    limited, free = predicted(with_power_limit(CARD, 200)), predicted(CARD)
    assert limited["peak_memory_gib"] == free["peak_memory_gib"]
    assert limited["max_concurrency"] == free["max_concurrency"]


def test_ranges_are_wider_than_without_a_limit_relative_to_the_value() -> None:
    limited, free = predicted(with_power_limit(CARD, 200)), predicted(CARD)
    for name in TIMED:
        (value, low, high), (free_value, free_low, free_high) = limited[name], free[name]
        assert high / value > free_high / free_value, name
        assert low / value < free_low / free_value, name


@pytest.mark.parametrize("row", [row for row in table("power.csv") if row["device"] == CARD.id], ids=lambda row: str(row["limit_w"]))
def test_every_published_point_lies_within_the_spread(row: dict[str, str]) -> None:
    limit = power_limit_of(with_power_limit(CARD, float(row["limit_w"])))
    assert limit is not None
    effect = limit.products if row["phase"] == "prefill" else limit.reading
    (full,) = (
        float(other["tok_s"]) for other in table("power.csv")
        if (other["source"], other["phase"], other["limit_w"]) == (row["source"], row["phase"], row["tdp_w"])
    )  # fmt: skip
    assert effect.low - 1e-9 <= float(row["tok_s"]) / full <= effect.high + 1e-9
    assert effect.low <= effect.speed <= effect.high <= 1


def test_a_card_without_a_sweep_of_its_own_may_lose_nothing() -> None:
    limit = power_limit_of(with_power_limit(load_hardware("h100-sxm"), 350))
    own = power_limit_of(with_power_limit(CARD, 175))
    assert limit is not None
    assert own is not None
    assert limit.products.high == limit.reading.high == 1
    assert (limit.products.speed, limit.products.low) == (own.products.speed, own.products.low)
    assert own.products.high < 1


@pytest.mark.parametrize(
    ("hardware", "watts", "action", "value"),
    [
        (CARD, 351, ErrorAction.LOWER, 350),
        (CARD, 99, ErrorAction.RAISE, 100),
        (CARD.model_copy(update={"tdp_w": None}), 300, ErrorAction.DROP, None),
    ],
)
def test_a_limit_of_unknown_effect_is_refused(hardware: Hardware, watts: float, action: ErrorAction, value: float | None) -> None:
    with pytest.raises(AdvisorError) as caught:
        with_power_limit(hardware, watts)
    assert (caught.value.code, caught.value.field) == ("bad-power-limit", "power_limit_w")
    assert (caught.value.action, caught.value.value) == (action, value)
    assert least_share() == pytest.approx(100 / 350)


def test_a_target_says_what_its_limit_does() -> None:
    notes: list[object] = []
    target = resolve_target("3090", "none", load_engine("vllm"), notes.append, power_limit_w=220)
    assert (target.hardware.id, target.hardware.power_limit_w) == ("rtx-3090", 220)
    assert target.hardware.peak_flops == CARD.peak_flops, "the data sheet is shown as it is"
    assert any("at 220 W products run at 74% [70%, 77%] of their speed" in str(note) for note in notes)
