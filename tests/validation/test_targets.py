"""Targets are judged on the rows that they are about, from numbers that were never measured."""

from dataclasses import replace

import pytest

from advisor.profiles.metrics import Basis, Value
from advisor.profiles.request import Load
from advisor.rendering.text.validation import reached_words, target_words
from advisor.validation.cases import PublishedCase, read_cases
from advisor.validation.errors import ComparedCase
from advisor.validation.targets import AccuracyTarget, targets_of


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> PublishedCase:
    path = tmp_path_factory.mktemp("cases") / "cases.csv"
    path.write_text(
        "case_id,metric,value,hardware,engine,model,weights,prompt_tokens,output_tokens,concurrency,load,source\n"
        "a,tpot_ms,10,h100-sxm,vllm,meta-llama/Meta-Llama-3.1-8B,bf16,512,64,4,closed,typed for this test\n"
    )
    return read_cases(path)[0]


def compared(case: PublishedCase, measured: float, predicted: float, **changed: object) -> ComparedCase:
    value = Value(value=predicted, low=0.9 * predicted, high=1.1 * predicted, basis=Basis.CATALOGUE)
    return ComparedCase(replace(case, measured=measured, **changed), value, "dense", "")  # type: ignore[arg-type]


def target(rows: list[ComparedCase], metric: str, measure: str) -> AccuracyTarget:
    (target,) = [item for item in targets_of(rows) if (item.metric, item.measure) == (metric, measure)]
    return target


def test_a_long_wait_and_an_open_loop_are_no_closed_loop(case: PublishedCase) -> None:
    assert case.configuration is not None
    rows = [
        compared(case, 100, 110, metric="ttft_ms"),
        compared(case, 9000, 90_000, metric="ttft_ms"),
        compared(case, 100, 900, metric="ttft_ms", configuration=replace(case.configuration, load=Load.OPEN)),
        compared(case, 100, 900, metric="ttft_ms", precision_stated=False),
    ]
    reached = target(rows, "TTFT, closed loop, below 8 s", "median |error|")
    assert (reached.rows, reached.met) == (1, True)
    assert reached.reached == pytest.approx(10)


def test_a_bias_is_missed_on_both_sides(case: PublishedCase) -> None:
    for predicted, met in ((105, True), (95, True), (120, False), (80, False)):
        rows = [compared(case, 100, predicted, metric="ttft_ms")]
        assert target(rows, "TTFT, closed loop, below 8 s", "bias").met is met


def test_too_wide_a_range_misses_as_one_too_narrow_does(case: PublishedCase) -> None:
    for inside, met in ((100, False), (90, True), (70, False)):
        rows = [compared(case, 100 if i < inside else 200, 100) for i in range(100)]
        assert target(rows, "tpot_ms, 1 source", "covered").met is met


def test_coverage_is_a_mean_over_publishers_not_rows(case: PublishedCase) -> None:
    rows = [compared(case, 100, 100, source="lab/repo many.md") for _ in range(99)] + [compared(case, 200, 100, source="lab/repo one.md")]
    rows.append(compared(case, 200, 100, source="else/where table.md"))
    reached = target(rows, "tpot_ms, 2 sources", "covered")
    assert reached.reached == pytest.approx(99 / 2)
    assert reached.rows == 101


def test_offline_throughput_is_not_that_of_a_closed_loop(case: PublishedCase) -> None:
    assert case.configuration is not None
    offline = replace(case.configuration, load=Load.OFFLINE)
    rows = [
        compared(case, 100, 150, metric="output_tok_s_total"),
        compared(case, 100, 110, metric="output_tok_s_total", configuration=offline),
        compared(case, 100, 110, metric="output_tok_s_per_gpu", configuration=offline),
    ]
    assert target(rows, "maximum throughput, offline", "median |error|").rows == 2


def test_single_streams_are_evaluated_per_family_of_devices_and_kind_of_engine(case: PublishedCase) -> None:
    rows = [
        compared(case, 100, 105, metric="decode_tok_s_single_stream", hardware="apple-m1-7", engine="llama.cpp"),
        compared(case, 100, 180, metric="decode_tok_s_single_stream", hardware="rtx-4090", engine="transformers"),
    ]
    assert target(rows, "single-stream decode, Apple", "median |error|").met is True
    assert target(rows, "single-stream decode, Ada", "median |error|").met is False
    assert target(rows, "single-stream decode, llama.cpp", "median |error|").met is True
    assert target(rows, "single-stream decode, torch engines", "median |error|").met is False


def test_without_rows_nothing_is_evaluated() -> None:
    targets = targets_of([])
    assert {item.met for item in targets} == {None}
    assert {reached_words(item) for item in targets} == {"-"}


def test_refused_rows_count_against_the_share_that_is_answered(case: PublishedCase) -> None:
    rows = [compared(case, 100, 100), ComparedCase(case, None, "", "unknown model")]
    answered = target(rows, "rows answered", "share")
    assert (answered.reached, answered.met) == (50, False)


def test_a_target_says_its_bounds() -> None:
    bounds = {"metric": "m", "reached": 1.0, "rows": 1}
    assert target_words(AccuracyTarget(measure="median |error|", high=9, **bounds)) == "median |error| at most 9 %"  # type: ignore[arg-type]
    assert target_words(AccuracyTarget(measure="Spearman", low=0.97, unit="", **bounds)) == "Spearman at least 0.97"  # type: ignore[arg-type]
    assert target_words(AccuracyTarget(measure="bias", low=-8, high=8, **bounds)) == "bias -8 to 8 %"  # type: ignore[arg-type]
