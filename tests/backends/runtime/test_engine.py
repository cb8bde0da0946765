"""Times, loads, errors and cancellation of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from advisor.backends.model.loaded_model import LoadedModel
from advisor.profiles.errors import AdvisorError, ExitCode

if TYPE_CHECKING:
    from advisor.backends.runtime.cache.pool import Pool
    from advisor.backends.runtime.engine import GenerationRequest, SequenceProgress, ServingResult

REQUESTS = [((3, 4, 5, 6), 5), ((7, 8), 3), ((9,) * 6, 4), ((10, 11), 6)]
"""Prompts and how many tokens each is given."""


def generation_requests(shapes: Sequence[tuple[tuple[int, ...], int]] = REQUESTS) -> list[GenerationRequest]:
    from advisor.backends.runtime.engine import GenerationRequest

    return [GenerationRequest(prompt, outputs) for prompt, outputs in shapes]


def most_in_flight(outcome: ServingResult) -> int:
    samples = [done.sample for done in outcome.finished]
    return max(sum(other.submitted_s <= sample.submitted_s < other.last_token_s for other in samples) for sample in samples)


def test_times_are_ordered_and_token_counts_add_up(llama: Any, open_session: Callable[..., LoadedModel]) -> None:
    from advisor.backends.runtime.engine import serve

    outcome = serve(open_session(llama, max_sequences=2), generation_requests(), concurrency=None)
    for done, job in zip(outcome.finished, generation_requests(), strict=True):
        sample = done.sample
        assert sample.submitted_s <= sample.first_token_s < sample.last_token_s <= outcome.wall_s
        assert (sample.prompt_tokens, sample.output_tokens) == (len(job.prompt), job.output_tokens)
    assert outcome.prefill_tokens == sum(len(job.prompt) for job in generation_requests())
    assert outcome.decode_tokens == sum(job.output_tokens for job in generation_requests())
    assert sum(outcome.step_seconds) <= outcome.wall_s
    assert outcome.kv_bytes == 2 * 80 * 2 * 2 * 2 * 16 * 4


def test_a_closed_loop_keeps_its_concurrency_in_flight(llama: Any, open_session: Callable[..., LoadedModel]) -> None:
    from advisor.backends.runtime.engine import serve

    session = open_session(llama, batching="continuous")
    assert most_in_flight(serve(session, generation_requests(), concurrency=1)) == 1
    assert most_in_flight(serve(session, generation_requests(), concurrency=2)) == 2
    assert most_in_flight(serve(session, generation_requests(), concurrency=None)) == 4


def test_an_open_loop_submits_at_the_given_times(llama: Any, open_session: Callable[..., LoadedModel]) -> None:
    from advisor.backends.runtime.engine import serve

    arrivals = [0.0, 0.0, 0.3, 0.31]
    outcome = serve(open_session(llama, batching="continuous"), generation_requests(), concurrency=None, arrivals_s=arrivals)
    assert [done.sample.submitted_s for done in outcome.finished] == arrivals
    assert outcome.finished[2].sample.first_token_s > 0.3


def test_waiting_for_a_slot_counts_as_time_to_first_token(llama: Any, open_session: Callable[..., LoadedModel]) -> None:
    from advisor.backends.runtime.engine import serve

    outcome = serve(open_session(llama, max_sequences=1), generation_requests()[:2], concurrency=None)
    first, second = (done.sample for done in outcome.finished)
    assert second.submitted_s < first.first_token_s, "both are there from the start"
    assert second.first_token_s > first.last_token_s, "the only slot is taken until the first is done"


def test_progress_is_reported_after_every_step_and_may_cancel(llama: Any, open_session: Callable[..., LoadedModel]) -> None:
    from advisor.backends.runtime.engine import serve

    reports: list[SequenceProgress] = []
    outcome = serve(open_session(llama), generation_requests(), concurrency=None, on_step=reports.append)
    assert [progress.step for progress in reports] == list(range(1, outcome.steps + 1))
    assert (reports[-1].finished, reports[-1].running, reports[-1].waiting) == (4, 0, 0)

    def cancel(progress: SequenceProgress) -> None:
        if progress.step == 2:
            raise InterruptedError

    before = llama.config._attn_implementation
    with pytest.raises(InterruptedError):
        serve(open_session(llama), generation_requests(), concurrency=None, on_step=cancel)
    assert llama.config._attn_implementation == before


def test_the_cache_is_freed_when_a_run_is_cancelled(llama: Any, open_session: Callable[..., LoadedModel]) -> None:
    from advisor.backends.runtime.prepare import prepared_session

    seen: list[Pool] = []

    def run_and_fail() -> None:
        with prepared_session(open_session(llama)) as ready:
            seen.append(ready.runner.pool)
            assert len(ready.runner.pool.keys) == 2
            raise InterruptedError

    with pytest.raises(InterruptedError):
        run_and_fail()
    assert seen[0].keys == seen[0].values == []


@pytest.mark.parametrize(
    ("settings", "requests", "arguments", "code"),
    [
        ({}, [((), 3)], {"concurrency": None}, "bad-run"),
        ({}, [((1,), 0)], {"concurrency": None}, "bad-run"),
        ({}, [((1, 63), 1), ((3, 64), 2)], {"concurrency": None}, "bad-tokens"),
        ({}, [((-1, 3), 2)], {"concurrency": 1}, "bad-tokens"),
        ({}, [((3, 2**70), 2)], {"concurrency": 1}, "bad-tokens"),
        ({}, REQUESTS, {"concurrency": 0}, "bad-run"),
        ({}, REQUESTS, {"concurrency": 2, "arrivals_s": [0.0] * 4}, "bad-run"),
        ({}, REQUESTS, {"concurrency": None, "arrivals_s": [0.0]}, "bad-run"),
        ({"kv_layout": "paged"}, REQUESTS, {"concurrency": None}, "bad-run"),
        ({"kv_format": "int2"}, REQUESTS, {"concurrency": None}, "unsupported-format"),
        ({"max_tokens": 8}, REQUESTS, {"concurrency": None}, "request-too-long"),
        ({"kv_layout": "paged", "kv_block_tokens": 4, "kv_capacity_tokens": 8}, REQUESTS, {"concurrency": None}, "kv-pool-too-small"),
    ],
)
def test_what_cannot_run_says_why(
    settings: dict[str, Any],
    requests: list[tuple[tuple[int, ...], int]],
    arguments: dict[str, Any],
    code: str,
    llama: Any,
    open_session: Callable[..., LoadedModel],
) -> None:
    from advisor.backends.runtime.engine import serve

    with pytest.raises(AdvisorError) as refusal:
        serve(open_session(llama, **settings), generation_requests(requests), **arguments)
    assert refusal.value.code == code


def test_a_cache_larger_than_memory_dies_of_memory(llama: Any, open_session: Callable[..., LoadedModel]) -> None:
    from advisor.backends.runtime.engine import serve

    session = open_session(llama, max_tokens=2**40, max_sequences=64)
    with pytest.raises(AdvisorError, match="memory ran out during the allocation of a cache of 64 blocks") as death:
        serve(session, generation_requests(), concurrency=None)
    assert (death.value.code, death.value.exit_code) == ("out-of-memory", ExitCode.DIED)


@pytest.mark.parametrize("allocator", ["device", "host"])
def test_allocators_errors_become_one(allocator: str) -> None:
    import torch

    from advisor.backends.runtime.device.memory import memory_errors

    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB") if allocator == "device" else MemoryError()
    with pytest.raises(AdvisorError, match="memory ran out during a test"), memory_errors("a test"):
        raise error


def test_other_errors_pass_unchanged() -> None:
    from advisor.backends.runtime.device.memory import memory_errors

    with pytest.raises(RuntimeError, match="shapes differ"), memory_errors("a test"):
        raise RuntimeError("shapes differ")
