"""Ranges hold what they promise on numbers whose spread is known; the tool's own arithmetic, without a prediction."""

import importlib.util
import math
import random
import sys
from pathlib import Path
from types import ModuleType

import pytest


def load_tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).resolve().parents[2] / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


tool = load_tool("calibrate")


def scores(count: int, *, clusters: int = 1, between: float = 0.0, seed: int = 1) -> list[object]:
    rng = random.Random(seed)
    shifts = [rng.gauss(0, between) if between else 0.0 for _ in range(clusters)]
    return [tool.Score(rng.gauss(shifts[i % clusters], 1.0), str(i % clusters)) for i in range(count)]


@pytest.mark.parametrize("n", [19, 20, 39, 100, 999])
def test_a_quantile_leaves_as_many_out_as_a_finite_sample_allows(n: int) -> None:
    quantile = tool.conformal_quantile([float(i) for i in range(1, n + 1)], [1.0] * n, 0.05)
    assert quantile == min(math.ceil(round((n + 1) * 0.95, 9)), n)


def test_too_few_comparisons_give_the_largest() -> None:
    assert tool.conformal_quantile([3.0, 1.0, 2.0], [1.0] * 3, 0.05) == 3.0


def test_bounds_hold_ninety_percent_of_new_numbers() -> None:
    inside = []
    for seed in range(20):
        low, high = tool.conformal_bounds(scores(400, seed=seed))
        inside += [low <= score.value <= high for score in scores(400, seed=seed + 1000)]  # type: ignore[attr-defined]
    assert 0.89 <= sum(inside) / len(inside) <= 0.93


def test_few_comparisons_give_a_symmetric_range() -> None:
    low, high = tool.conformal_bounds(scores(25))
    assert low == -high < 0


def test_a_large_cluster_does_not_rule() -> None:
    big = [tool.Score(0.1 * (i % 2 - 0.5), "big") for i in range(10_000)]
    small = [tool.Score(float(c), f"{c}{i}") for c in (-2, 2) for i in range(40)]
    low, high = tool.conformal_bounds([*big, *small])
    assert (low, high) == (-2.0, 2.0)


def test_clusters_that_differ_stretch_the_range() -> None:
    alike, _ = tool.stretched(scores(600, clusters=12))
    apart, _ = tool.stretched(scores(600, clusters=12, between=3.0, seed=3))
    assert alike <= 1.05 <= apart


def test_held_out_predictions_take_the_place_of_the_same_rows(tmp_path: Path) -> None:
    head = "case_id,metric,measured,predicted,basis\n"
    rows, held_out = tmp_path / "rows.csv", tmp_path / "held-out.csv"
    rows.write_text(head + "a,tpot_ms,10,9,catalogue\nb,tpot_ms,10,8,catalogue\nc,tpot_ms,10,,\n")
    held_out.write_text(head + "a,tpot_ms,10,5,catalogue\n")
    assert [(row["case_id"], row["predicted"]) for row in tool.predictions(rows, held_out)] == [("a", "5"), ("b", "8")]


def test_a_table_of_cases_becomes_ranges_and_a_domain(tmp_path: Path) -> None:
    columns = "case_id,metric,value,hardware,devices,tp,pp,engine,model,weights,prompt_tokens,output_tokens,concurrency,load,source"
    cases, rows = tmp_path / "cases.csv", tmp_path / "rows.csv"
    setting = "h100-sxm,1,1,1,vllm,meta-llama/Meta-Llama-3.1-8B,bf16,512,64"
    cases.write_text("\n".join([columns, *(f"{i},tpot_ms,{10 + i % 3},{setting},{1 + i},closed,s{i % 5}" for i in range(60))]))
    rows.write_text("\n".join(["case_id,metric,measured,predicted,basis", *(f"{i},tpot_ms,{10 + i % 3},11,catalogue" for i in range(60))]))
    scored = list(tool.scored(tool.read_cases(cases), tool.predictions(rows, None)))
    lines = {
        (metric, basis, stratum): (float(below), float(above), count)
        for metric, basis, stratum, below, above, count in tool.range_lines(scored)
    }
    below, above, count = lines["tpot", "catalogue", ""]
    assert count == 60
    assert below == pytest.approx(10 / 11, rel=0.1)
    assert above == pytest.approx(12 / 11, rel=0.1)
    assert lines["tpot", "catalogue", "dense"][2] == 59, "one request in flight is a stratum of its own"
    domain = {(dimension, name): (least, most) for dimension, name, least, most, _ in tool.domain_lines(scored)}
    assert domain["in_flight", ""] == (1, 60)
    assert ("engine", "vllm") in domain
