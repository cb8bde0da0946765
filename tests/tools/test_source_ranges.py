"""Ranges of times hold what they promise of the next source: simulated ones whose spread is known, and the published ones left out."""

import csv
import math
import random
from collections.abc import Sequence

import pytest

from tests.paths import ROOT
from tools.source_ranges import (
    EXTERNAL,
    FITTED,
    LeftOutError,
    bounds_of,
    by_source,
    error_of,
    factors_of,
    left_out_coverages,
    needed_stretches,
    read_errors,
    stretch_of,
    weighted_quantile,
)

METRICS = ("tpot_ms", "ttft_ms", "output_tok_s_total", "prefill_tok_s")
LEAST, MOST = 0.86, 0.94


def source(name: str, metric: str, values: Sequence[float]) -> list[LeftOutError]:
    return [LeftOutError(metric, EXTERNAL, name, value) for value in values]


def laboratories(rng: random.Random, count: int, prefix: str = "lab") -> list[LeftOutError]:
    """Each with a bias of its own, more often too slow than too fast, and from 1 to 60 rows of each metric."""
    errors = []
    for index in range(count):
        for metric in METRICS:
            bias = rng.expovariate(3.0) - 0.2
            errors += source(f"{prefix}{index}", metric, [rng.gauss(bias, 0.15) for _ in range(rng.choice((1, 5, 60)))])
    return errors


def test_the_next_laboratory_falls_inside_as_often_as_promised() -> None:
    shares = []
    for seed in range(12):
        rng = random.Random(seed)
        calibrating, fresh = laboratories(rng, 8), laboratories(rng, 20, "next")
        factors = factors_of(calibrating, stretch_of(calibrating))
        for (metric, _), values in _grouped(fresh).items():
            below, above = factors[metric]
            shares.append(sum(math.log(below) <= value <= math.log(above) for value in values) / len(values))
    assert LEAST <= sum(shares) / len(shares) <= MOST


def _grouped(errors: Sequence[LeftOutError]) -> dict[tuple[str, str], list[float]]:
    groups: dict[tuple[str, str], list[float]] = {}
    for error in errors:
        groups.setdefault((error.ranged, error.source), []).append(error.value)
    return groups


def test_a_source_weighs_the_same_whatever_its_rows() -> None:
    small = [error for index in range(9) for error in source(f"small{index}", "tpot_ms", [-1.0, 1.0])]
    large = source("large", "tpot_ms", [0.01] * 10_000)
    assert bounds_of([*large, *small]) == bounds_of([*large[:1], *small]) == (-1.0, 1.0)


def test_sides_are_set_apart() -> None:
    errors = [error for index in range(10) for error in source(f"lab{index}", "tpot_ms", [-0.1, 0.0, 0.5])]
    assert bounds_of(errors) == (-0.1, 0.5)


def test_sources_that_agree_need_no_stretch_and_those_that_differ_do() -> None:
    spread = [index / 10 for index in range(-10, 11)]
    alike = [error for index in range(10) for error in source(f"lab{index}", "tpot_ms", spread)]
    apart = [error for index in range(10) for error in source(f"lab{index}", "tpot_ms", [value + 3 ** (index - 5) for value in spread])]
    assert stretch_of(alike) <= 1 < stretch_of(apart)


def test_a_source_is_judged_by_the_others_alone() -> None:
    errors = [*source("wide", "tpot_ms", [-2.0, 2.0]), *source("narrow", "tpot_ms", [-1.0, 1.0])]
    assert needed_stretches(errors) == {("tpot_ms", (EXTERNAL, "wide")): [2.0, 2.0], ("tpot_ms", (EXTERNAL, "narrow")): [0.5, 0.5]}
    shares = {item.source: item.share for item in left_out_coverages(errors, 1.0)}
    assert shares == {"wide": 0.0, "narrow": 1.0}


def test_the_rate_of_one_sequence_is_the_inverse_of_its_tpot() -> None:
    rate = {"metric": "decode_tok_s_single_stream", "table": FITTED, "source": "lab", "measured": "50", "predicted": "100"}
    time = rate | {"metric": "tpot_ms", "measured": "20", "predicted": "10"}
    assert error_of(rate).value == pytest.approx(error_of(time).value)
    assert error_of(rate).ranged == error_of(time).ranged == "tpot"


def test_a_quantile_is_the_least_value_with_its_share_of_the_weight() -> None:
    assert [weighted_quantile([(1.0, 1.0), (2.0, 2.0), (3.0, 1.0)], share) for share in (0.25, 0.26, 0.75, 1.0)] == [1.0, 2.0, 2.0, 3.0]


def test_sources_left_out_fall_inside_the_ranges_of_the_others() -> None:
    """90 % of what the next laboratory publishes, for each metric; each source of it weighs the same."""
    errors = read_errors()
    shares: dict[str, list[float]] = {}
    for item in left_out_coverages(errors, stretch_of(errors)):
        shares.setdefault(item.metric, []).append(item.share)
    covered = {metric: sum(values) / len(values) for metric, values in shares.items()}
    assert set(covered) == {"tpot_ms", "ttft_ms", "output_tok_s_total", "decode_tok_s_single_stream", "prefill_tok_s"}
    assert {metric: share for metric, share in covered.items() if not LEAST <= share <= MOST} == {}
    assert min(map(len, shares.values())) >= 7


def test_every_external_source_is_among_those_left_out() -> None:
    sources = {name for table, name in by_source(read_errors()) if table == EXTERNAL}
    assert len(sources) == 17
    with (ROOT / "benchmarks/published/field.csv").open(encoding="utf-8", newline="") as file:
        published = {row["source"] for row in csv.DictReader(file)}
    assert all(any(text.startswith(name) for name in sources) for text in published)
