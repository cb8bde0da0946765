"""Errors of predicted ratios, and the regret of choosing by prediction."""

import pytest

from benchmarks.harness.record import Record
from tools.stack_figures import ratio_error, regret


def stack(techniques: str, predicted: float, measured: float, *, concurrency: int = 4) -> Record:
    settings: dict[str, int | float | str | bool | None] = {
        "model": "m",
        "techniques": techniques,
        "prompt_tokens": 8,
        "output_tokens": 8,
        "concurrency": concurrency,
    }
    values = {"predicted_throughput_tok_s": predicted, "measured_throughput_tok_s": measured}
    return Record.model_validate(
        {"case": f"{techniques}, {concurrency}", "environment": "e", "status": "done", "settings": settings, "values": values}
    )


STACKS = [stack("", 100, 80), stack("a", 150, 132), stack("b", 140, 140), stack("", 10, 10, concurrency=1)]


def test_a_ratio_is_to_the_baseline_of_its_load() -> None:
    assert ratio_error(STACKS[1], STACKS) == pytest.approx((150 / 100) / (132 / 80) - 1)
    assert ratio_error(STACKS[0], STACKS) is None
    assert ratio_error(stack("a", 1, 1, concurrency=9), STACKS) is None


def test_regret_is_what_the_stack_predicted_best_loses() -> None:
    assert regret(STACKS[0], STACKS) == pytest.approx(1 - 132 / 140)
    assert regret(STACKS[3], STACKS) == 0
    assert regret(STACKS[1], STACKS) is None
