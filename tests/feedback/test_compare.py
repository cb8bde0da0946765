"""Comparisons of canned runs and of runs made here: no number in them was measured."""

import json

import pytest

from advisor.feedback.causes import likely_cause
from advisor.feedback.compare import ComparedMetric, Comparison, RangeVerdict, compare
from advisor.profiles.errors import ExitCode
from advisor.profiles.formats import GIB
from advisor.profiles.metrics import Basis, Metrics, Value
from advisor.profiles.request import Limits
from advisor.profiles.run import HeldWeights, Run, Rung, RungStatus
from advisor.rendering.html.run_page import report_html
from advisor.rendering.text.comparison import comparison_dict
from advisor.rendering.text.run import run_text
from tests.paths import ROOT

RUN = Run.model_validate_json((ROOT / "tests/canned/run.json").read_text(encoding="utf-8"))


def guess(number: float, share: float = 0.1) -> Value:
    return Value(value=number, low=number * (1 - share), high=number * (1 + share), basis=Basis.PROFILED)


def seen(number: float) -> Value:
    return Value.exact(number, Basis.MEASURED)


def rung(name: str, predicted: Metrics, measured: Metrics | None, status: RungStatus = RungStatus.DONE) -> Rung:
    techniques = () if name == "baseline" else (name,)
    return Rung(name=name, techniques=techniques, status=status, predicted=predicted, measured=measured)


def compared(*rungs: Rung, limits: Limits | None = None) -> Comparison:
    request = RUN.request.model_copy(update={"limits": limits or Limits()})
    return compare(RUN.model_copy(update={"rungs": rungs, "request": request}))


def tpot(name: str, predicted: float, measured: float, share: float = 0.1) -> Rung:
    return rung(name, Metrics(tpot_ms_mean=guess(predicted, share)), Metrics(tpot_ms_mean=seen(measured)))


def line_of(comparison: Comparison, step: int, metric: str) -> ComparedMetric:
    line = comparison.rungs[step].metric(metric)
    assert line is not None
    return line


def test_error_is_predicted_against_measured_in_percent_of_measured() -> None:
    line = line_of(compared(tpot("baseline", 12.0, 10.0, 0.3)), 0, "tpot_ms_mean")
    assert line.error == pytest.approx(20.0)
    assert (line.error_unit, line.verdict) == ("%", RangeVerdict.WITHIN)


def test_value_beyond_its_range_is_outside() -> None:
    comparison = compared(tpot("baseline", 10.0, 12.0))
    assert line_of(comparison, 0, "tpot_ms_mean").verdict is RangeVerdict.OUTSIDE
    assert (comparison.within, comparison.compared) == (0, 1)


def test_values_that_are_shown_equal_are_within_an_exact_prediction() -> None:
    exact = rung("baseline", Metrics(weights_gib=Value.exact(1.0000)), Metrics(weights_gib=seen(1.0004)))
    off = rung("baseline", Metrics(weights_gib=Value.exact(1.0000)), Metrics(weights_gib=seen(1.02)))
    assert line_of(compared(exact), 0, "weights_gib").verdict is RangeVerdict.WITHIN
    assert line_of(compared(off), 0, "weights_gib").verdict is RangeVerdict.OUTSIDE


def test_differences_near_zero_are_not_percentages() -> None:
    pair = rung("baseline", Metrics(quality_loss_pct=guess(0.4, 1.0)), Metrics(quality_loss_pct=seen(0.0)))
    line = line_of(compared(pair), 0, "quality_loss_pct")
    assert line.error == pytest.approx(0.4)
    assert (line.error_unit, line.verdict) == ("points", RangeVerdict.WITHIN)


def test_a_quality_that_noise_explains_is_within_an_exact_prediction() -> None:
    lossless = Metrics(quality_loss_pct=Value.exact(0.0))
    noisy, real = (
        Metrics(quality_loss_pct=Value(value=loss, low=loss - 0.03, high=loss + 0.03, basis=Basis.MEASURED)) for loss in (0.004, 0.05)
    )
    assert line_of(compared(rung("baseline", lossless, noisy)), 0, "quality_loss_pct").verdict is RangeVerdict.WITHIN
    assert line_of(compared(rung("baseline", lossless, real)), 0, "quality_loss_pct").verdict is RangeVerdict.OUTSIDE


def test_limits_are_checked_on_the_full_stack_only() -> None:
    limits = Limits(throughput_tok_s=100)
    slow, fast = (rung(name, Metrics(), Metrics(throughput_tok_s=seen(rate))) for name, rate in (("baseline", 50.0), ("kv-paged", 120.0)))
    assert compared(slow, fast, limits=limits).exit_code() is ExitCode.OK
    missed = compared(fast, slow, limits=limits)
    assert [line.metric for line in missed.limits_missed] == ["throughput_tok_s"]
    assert missed.exit_code() is ExitCode.LIMIT_MISSED


def test_strict_fails_on_a_range_that_the_full_stack_leaves() -> None:
    left = compared(tpot("baseline", 10.0, 10.0), tpot("weights-int8", 5.0, 8.0))
    assert left.exit_code() is ExitCode.OK
    assert left.exit_code(strict=True) is ExitCode.LIMIT_MISSED
    only_below = compared(tpot("baseline", 10.0, 20.0), tpot("weights-int8", 5.0, 5.1))
    assert only_below.exit_code(strict=True) is ExitCode.OK


@pytest.mark.parametrize("status", [RungStatus.OUT_OF_MEMORY, RungStatus.FAILED, RungStatus.CANCELLED, RungStatus.NOT_RUN])
def test_a_full_stack_that_did_not_finish_is_no_success(status: RungStatus) -> None:
    comparison = compared(tpot("baseline", 10.0, 10.0), rung("kv-int8", Metrics(tpot_ms_mean=guess(9.0)), None, status))
    assert comparison.exit_code() is ExitCode.DIED
    assert line_of(comparison, 1, "tpot_ms_mean").verdict is RangeVerdict.NOT_MEASURED
    assert compared().exit_code() is ExitCode.DIED


def test_medians_are_of_absolute_errors_over_the_ladder() -> None:
    comparison = compared(tpot("baseline", 11.0, 10.0), tpot("a", 8.0, 10.0), tpot("b", 10.5, 10.0))
    (median,) = comparison.median_errors
    assert median.error_pct == pytest.approx(10.0)
    assert (median.metric, median.rungs) == ("tpot_ms_mean", 3)


def test_share_of_a_technique_is_against_the_last_rung_that_was_measured() -> None:
    broken = rung("a", Metrics(tpot_ms_mean=guess(9.0)), None, RungStatus.FAILED)
    comparison = compared(tpot("baseline", 10.0, 20.0), broken, tpot("b", 5.0, 15.0))
    share = comparison.contributions[-1]
    assert (share.technique, share.previous) == ("b", "baseline")
    assert share.predicted_pct == pytest.approx(-50.0)
    assert share.measured_pct == pytest.approx(-25.0)


def test_a_miss_that_the_baseline_shares_is_attributed_to_the_baseline() -> None:
    cause = likely_cause(compared(tpot("baseline", 10.0, 15.0), tpot("weights-int8", 7.0, 11.0)))
    assert cause is not None
    assert cause.rung == "weights-int8"
    assert "baseline has most of the same error (-33.3 %)" in cause.evidence[-1]


def test_a_miss_that_appears_with_a_technique_is_attributed_to_it() -> None:
    cause = likely_cause(compared(tpot("baseline", 10.0, 10.2), tpot("a", 9.0, 9.1), tpot("b", 4.0, 8.0), tpot("c", 3.8, 7.9)))
    assert cause is not None
    assert cause.rung == "c"
    assert cause.evidence[-1] == "it appears with b: its change from a was predicted as -55.6 % and measured as -12.1 %"


def test_memory_miss_names_the_part_that_is_off() -> None:
    predicted = Metrics(peak_memory_gib=guess(10.0, 0.01), weights_gib=guess(6.0), kv_cache_gib=guess(3.0))
    measured = Metrics(peak_memory_gib=seen(12.0), weights_gib=seen(6.0), kv_cache_gib=seen(3.1))
    cause = likely_cause(compared(rung("baseline", predicted, measured)))
    assert cause is not None
    assert cause.evidence[0] == "of an error of -2.00 GiB, -1.90 GiB is everything else (activations, libraries, runtime)"


def test_throughput_miss_names_the_latency_it_comes_from() -> None:
    predicted = Metrics(throughput_tok_s=guess(200.0), ttft_ms_mean=guess(100.0), tpot_ms_mean=guess(5.0, 0.6))
    measured = Metrics(throughput_tok_s=seen(120.0), ttft_ms_mean=seen(101.0), tpot_ms_mean=seen(8.0))
    cause = likely_cause(compared(rung("baseline", predicted, measured)))
    assert cause is not None
    assert cause.evidence[0] == "of its parts, TPOT mean has an error of -37.5 % and TTFT mean of -1.0 %"


def test_a_measured_spread_that_contains_the_prediction_is_called_noise() -> None:
    noisy = Metrics(tpot_ms_mean=Value(value=14.0, low=9.0, high=19.0, basis=Basis.MEASURED))
    cause = likely_cause(compared(rung("baseline", Metrics(tpot_ms_mean=guess(10.0)), noisy)))
    assert cause is not None
    assert "within the spread of the repeats: noise may explain all of the miss" in cause.evidence[0]


def test_nothing_outside_has_no_cause() -> None:
    assert likely_cause(compared(tpot("baseline", 10.0, 10.1))) is None


def test_acceptance_explains_a_draft_that_disappoints() -> None:
    cause = likely_cause(compare(RUN))
    assert cause is not None
    assert (cause.rung, cause.metric) == ("decode-draft", "tpot_ms_mean")
    assert any(text.startswith("acceptance of proposed tokens was 34.0 %") for text in cause.evidence)


def test_published_form_is_json_with_every_number() -> None:
    comparison = compare(RUN)
    record = json.loads(json.dumps(comparison_dict(comparison), allow_nan=False))
    assert record["format"] == "1.0"
    assert [step["name"] for step in record["rungs"]] == [rung.name for rung in RUN.rungs]
    for shown, rung in zip(record["rungs"], RUN.rungs, strict=True):
        assert rung.measured is not None
        for name, value in rung.measured.present().items():
            assert shown["metrics"][name]["measured"] == value.as_dict()
        for name, value in rung.predicted.present().items():
            assert shown["metrics"][name]["predicted"] == value.as_dict()
    assert record["summary"]["within_range"] == comparison.within
    assert (record["exit_code"], record["summary"]["limits_missed"]) == (5, ["tpot_ms_p95"])


@pytest.mark.parametrize(
    ("predicted", "actual", "is_fault"), [(396_960, 684_736, True), (252_816, 253_376, False), (1_020_000, 1_000_000, True)]
)
def test_weights_that_take_other_bytes_than_predicted_are_an_error_of_ours(predicted: int, actual: int, is_fault: bool) -> None:
    expected, seen_bytes = Metrics(weights_gib=Value.exact(predicted / GIB)), Metrics(weights_gib=seen(actual / GIB))
    weights = HeldWeights.of(expected, seen_bytes)
    assert weights == HeldWeights(predicted_bytes=predicted, held_bytes=actual, is_fault=is_fault)
    step = rung("weights-int8", expected, seen_bytes).model_copy(update={"weights": weights})
    run = RUN.model_copy(update={"rungs": (rung("baseline", Metrics(), Metrics()), step)})
    comparison, sentence = compare(run), f"weights-int8: the weights take {actual:,} bytes and {predicted:,} were predicted"
    assert (len(comparison.faults) == 1) is is_fault
    assert (sentence in " ".join(run_text(run, width=200).split())) is is_fault
    assert (sentence in report_html(run)) is is_fault
    assert json.loads(json.dumps(comparison_dict(comparison)))["rungs"][1]["weights"]["held_bytes"] == actual
    assert read_back(run).rungs[1].weights == weights


def read_back(run: Run) -> Run:
    return Run.model_validate_json(run.model_dump_json())
