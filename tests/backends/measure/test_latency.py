"""Observed times become metrics by the definitions, with ranges that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

from advisor.backends.measure.latency import (
    arrival_times,
    check_text,
    cut_prompts,
    longest_prompt,
    request_lengths,
    shared_prompts,
    workload_metrics,
)
from advisor.planning.question import workload_of
from advisor.profiles.errors import AdvisorError
from advisor.profiles.metrics import Basis, Sample
from advisor.profiles.request import Load, Workload
from advisor.profiles.trace import Arrival, Trace

if TYPE_CHECKING:
    from advisor.backends.runtime.engine import ServingResult


def outcome(requests: Sequence[tuple[float, float, float]], tokens: int = 5, *, proposed: int = 0, accepted: int = 0) -> ServingResult:
    """Of requests given as times of submission, first and last token, seconds."""
    from advisor.backends.runtime.engine import FinishedRequest, ServingResult

    finished = tuple(
        FinishedRequest(
            index,
            (1,) * tokens,
            Sample(prompt_tokens=10, output_tokens=tokens, submitted_s=begin, first_token_s=first, last_token_s=last),
        )
        for index, (begin, first, last) in enumerate(requests)
    )
    return ServingResult(
        finished=finished,
        wall_s=max(last for *_, last in requests),
        steps=9,
        prefill_tokens=10,
        decode_tokens=tokens * len(requests),
        kv_bytes=2**30,
        kv_used_bytes_peak=2**29,
        proposed=proposed,
        accepted=accepted,
    )


def test_metrics_follow_the_definitions() -> None:
    result = workload_metrics([outcome([(0.0, 0.1, 0.5), (0.0, 0.3, 1.0)])], [100.0, 300.0], seed=1)
    values = {name: value.value for name, value in result.present().items()}
    assert values["ttft_ms_mean"] == pytest.approx(200)
    assert values["tpot_ms_mean"] == pytest.approx((0.4 + 0.7) / 4 / 2 * 1e3)
    assert values["throughput_tok_s"] == pytest.approx(10 / 1.0)
    assert values["decode_tok_s"] == pytest.approx(1e3 / values["tpot_ms_mean"])
    assert values["prefill_tok_s"] == pytest.approx(200)
    assert values["kv_cache_gib"] == 0.5
    assert "acceptance" not in values
    assert {value.basis for value in result.present().values()} == {Basis.MEASURED}


def test_ranges_hold_the_spread_over_repeats() -> None:
    quick, slow = outcome([(0.0, 0.1, 0.5)] * 4), outcome([(0.0, 0.2, 1.0)] * 4)
    ttft = workload_metrics([quick, slow], [1.0, 1.0], seed=1).present()["ttft_ms_mean"]
    rate = workload_metrics([quick, slow], [1.0, 1.0], seed=1).present()["throughput_tok_s"]
    assert (rate.low, rate.value, rate.high) == pytest.approx((20, 30, 40), rel=0.2)
    assert ttft.low <= 100
    assert ttft.high >= 200


def test_single_tokens_have_no_time_per_token() -> None:
    result = workload_metrics([outcome([(0.0, 0.1, 0.1)], tokens=1)], [1.0, 1.0], seed=1)
    assert result.tpot_ms_mean is None
    assert result.decode_tok_s is None


def test_acceptance_is_what_a_step_gains_by_the_positions_it_may_hold() -> None:
    """Five tokens, the first from the prompt and two accepted: two steps of two positions gained two tokens."""
    result = workload_metrics([outcome([(0.0, 0.1, 0.5)], proposed=3, accepted=2)] * 2, [1.0, 1.0], seed=1, draft_tokens=2)
    assert result.acceptance is not None
    assert result.acceptance.value == 2 / (2 * 2)


def test_prompts_repeat_with_their_seed_and_lie_in_the_text() -> None:
    tokens = list(range(100))
    first, again, other = (cut_prompts(tokens, 30, 8, seed) for seed in (1, 1, 2))
    assert first == again != other
    assert all(prompt == tuple(range(prompt[0], prompt[0] + 30)) for prompt in first)


def test_prompts_that_share_a_prefix_have_it_in_common_and_no_more_by_construction() -> None:
    text = list(range(500))
    prompts = shared_prompts(text, [100, 120, 40], 60, seed=3)
    assert [len(prompt) for prompt in prompts] == [100, 120, 40]
    common = prompts[0][:60]
    assert prompts[1][:60] == common
    assert prompts[2][:39] == common[:39], "of a shorter prompt, all but its last token"
    assert len({prompt[60:] for prompt in prompts[:2]}) == 2
    assert shared_prompts(text, [100, 100], 0, seed=3) == cut_prompts(text, 100, 2, seed=3), "without one, prompts are as before"


def test_arrivals_of_an_open_load_keep_their_rate() -> None:
    times = arrival_times(Workload(prompt_tokens=1, output_tokens=1, load=Load.OPEN, request_rate_per_s=4.0), 4000, seed=1)
    assert times is not None
    assert times == sorted(times)
    assert 4000 / times[-1] == pytest.approx(4.0, rel=0.05)
    assert arrival_times(Workload(prompt_tokens=1, output_tokens=1, concurrency=1), 9, seed=1) is None


def test_a_trace_is_measured_with_its_own_lengths_and_times() -> None:
    requests = tuple(Arrival(arrival_s=at, prompt_tokens=10 + number, output_tokens=3) for number, at in enumerate((0.0, 0.5, 2.0)))
    workload = workload_of(1, 1, trace=Trace(name="three", requests=requests))
    assert request_lengths(workload, 2) == [(10, 3), (11, 3)]
    assert arrival_times(workload, 2, seed=1) == [0.0, 0.5]
    with pytest.raises(AdvisorError, match=r"12 tokens; prompts of 12"):
        check_text([0] * 12, workload)


def test_end_to_end_is_from_submission_to_the_last_token() -> None:
    metrics = workload_metrics([outcome([(0.0, 1.0, 3.0), (1.0, 2.0, 9.0)])], [100.0], seed=1)
    milliseconds = {name: value.value for name, value in metrics.present().items() if name.startswith(("e2e_", "ttft_"))}
    assert milliseconds["e2e_ms_mean"] == milliseconds["e2e_ms_p50"] == 5500
    assert milliseconds["e2e_ms_p50"] < milliseconds["e2e_ms_p95"] < milliseconds["e2e_ms_p99"] < 8000
    assert milliseconds["ttft_ms_p99"] == 1000


def test_a_text_shorter_than_a_prompt_is_an_error_with_both_lengths() -> None:
    with pytest.raises(AdvisorError, match=r"20 tokens; prompts of 30"):
        check_text([0] * 20, Workload(prompt_tokens=30, output_tokens=1, concurrency=1))


def test_lengths_vary_by_the_spread_as_far_as_the_longest_sequence_allows() -> None:
    roomy = Workload(prompt_tokens=200, output_tokens=50, concurrency=4, context_limit_tokens=500, length_spread=0.4)
    lengths = request_lengths(roomy, 200)
    assert lengths == request_lengths(roomy, 200), "every repeat has the same lengths"
    assert min(prompt for prompt, _ in lengths) < 130
    assert 270 < max(prompt for prompt, _ in lengths) <= longest_prompt(roomy) == 280
    assert sum(output for _, output in lengths) / 200 == pytest.approx(50, rel=0.05)
    full = roomy.model_copy(update={"context_limit_tokens": 250})
    assert request_lengths(full, 3) == [(200, 50)] * 3
    assert request_lengths(roomy, 1) == [(200, 50)]
