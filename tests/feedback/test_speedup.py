"""The ratio of a plan to the baseline: its interval, its verdict, and predictions scaled by the measured baseline."""

import html

import pytest

from advisor.feedback.compare import RangeVerdict, compare
from advisor.feedback.speedup import SpeedupVerdict, headline, speedups
from advisor.profiles.metrics import Basis, Metrics, Value
from advisor.profiles.request import Request, Workload
from advisor.profiles.run import Environment, Recipe, Repeat, Run, Rung, RungStatus
from advisor.rendering.html.run_verdict import verdict
from advisor.rendering.text.run import run_text


def repeats(*rates: float) -> tuple[Repeat, ...]:
    return tuple(Repeat(throughput_tok_s=rate, ttft_ms_mean=100.0, tpot_ms_mean=1000 / rate) for rate in rates)


def metrics(rate: float, basis: Basis) -> Metrics:
    def ranged(value: float) -> Value:
        return Value(value=value, low=0.9 * value, high=1.1 * value, basis=basis)

    return Metrics(throughput_tok_s=ranged(rate), tpot_ms_mean=ranged(1000 / rate), ttft_ms_mean=ranged(100.0), peak_memory_gib=ranged(1.0))


def run_of(baseline: tuple[float, ...], full: tuple[float, ...], *, busy_share: float | None = None) -> Run:
    return Run(
        id="run-1",
        plan_id="plan-1",
        title="two rungs",
        model="demo",
        request=Request(workload=Workload(prompt_tokens=16, output_tokens=8, concurrency=2)),
        environment=Environment(fingerprint="cpu:test", device="cpu", threads=2, python="3.11", packages={}, busy_share=busy_share),
        recipe=Recipe(requests=4, warmup_requests=1, repeats=len(full), seed=1, quality_text="text", quality_tokens=64, interleaved=True),
        rungs=(
            Rung(
                name="baseline",
                techniques=(),
                status=RungStatus.DONE,
                predicted=metrics(100, Basis.PROFILED),
                measured=metrics(50, Basis.MEASURED),
            ),
            Rung(
                name="full stack",
                techniques=("kv-paged",),
                status=RungStatus.DONE,
                predicted=metrics(180, Basis.PROFILED),
                measured=metrics(sum(full) / len(full), Basis.MEASURED),
                repeats=repeats(*full),
                baseline_repeats=repeats(*baseline),
            ),
        ),
        created="2026-12-01T00:00:00Z",
    )  # fmt: skip


def test_what_slows_both_of_a_pair_does_not_widen_the_ratio() -> None:
    (throughput, *_) = speedups(run_of((50, 25, 100), (95, 48, 190)))
    assert throughput.ratio == pytest.approx(1.9, rel=0.01)
    assert 1.85 < throughput.low < throughput.ratio < throughput.high < 1.95
    assert (throughput.pairs, throughput.verdict) == (3, SpeedupVerdict.FASTER)
    assert throughput.predicted == pytest.approx(1.8)


def test_the_interval_is_students_t_on_logarithms() -> None:
    """Ratios 1, 2 and 4: mean 2, standard error of the logarithm ln 2 / √3, t of two degrees of freedom 2.920."""
    (throughput, *_) = speedups(run_of((10, 10, 10), (10, 20, 40)))
    assert throughput.ratio == pytest.approx(2.0)
    assert throughput.high / throughput.ratio == pytest.approx(2 ** (2.920 / 3**0.5))


@pytest.mark.parametrize(
    ("full", "beginning", "expected"),
    [
        ((95, 96, 94), "1.90 times the baseline's throughput [", SpeedupVerdict.FASTER),
        ((40, 41, 39), "slower than the baseline, keep the baseline: 0.8", SpeedupVerdict.SLOWER),
        ((45, 55, 50), "no difference to the baseline shown: 0.9", SpeedupVerdict.NO_DIFFERENCE),
    ],
)
def test_the_headline_says_whether_the_plan_is_worth_it(full: tuple[float, ...], beginning: str, expected: SpeedupVerdict) -> None:
    run = run_of((50, 50, 50), full)
    throughput, tpot, _ = speedups(run)
    assert (throughput.verdict, tpot.verdict) == (expected, expected)
    assert headline(throughput).startswith(beginning), headline(throughput)
    sentence = headline(throughput)[1:30]
    assert sentence in run_text(run, width=200)
    assert sentence in html.unescape(verdict(compare(run)))


def test_runs_without_pairs_have_no_ratio() -> None:
    run = run_of((50,), (95,))
    assert speedups(run) == ()
    assert compare(run).speedups == ()


def test_predictions_after_the_baseline_are_scaled_by_the_measured_baseline() -> None:
    run = run_of((50, 50, 50), (90, 90, 90))
    full = compare(run).rungs[1]
    assert full.conditioned
    rate = full.metric("throughput_tok_s")
    assert rate is not None
    assert rate.predicted is not None
    assert rate.predicted.value == pytest.approx(90.0), "the plan says 180 where the baseline has 100, and 50 were measured"
    assert rate.verdict is RangeVerdict.WITHIN
    memory = full.metric("peak_memory_gib")
    assert memory is not None
    assert memory.predicted == run.rungs[1].predicted.peak_memory_gib, "sizes do not depend on the speed of the machine"
    assert "scaled by its measured over its predicted times" in run_text(run, width=200)


def test_a_busy_machine_is_said() -> None:
    assert "Other processes used 48 % of the processors" in run_text(run_of((50, 50), (90, 90), busy_share=0.48), width=200)
    assert "Other processes" not in run_text(run_of((50, 50), (90, 90), busy_share=0.02), width=200)
