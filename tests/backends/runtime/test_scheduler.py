"""Who runs next, under which budget, and who gives way when blocks run out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from advisor.profiles.errors import AdvisorError, ExitCode

if TYPE_CHECKING:
    from advisor.backends.runtime.scheduler import ScheduledChunk, Scheduler, Sequence


def scheduler(
    *, blocks: int = 32, block_tokens: int = 4, continuous: bool = True, slots: int = 3, budget: int = 0, drafts: int = 0,
    chunked: bool = True,
) -> Scheduler:  # fmt: skip
    import torch

    from advisor.backends.runtime.cache.pool import CacheConfig, KvShape, Pool
    from advisor.backends.runtime.scheduler import Policy, Scheduler

    config = CacheConfig(blocks=blocks, block_tokens=block_tokens, sequences=slots, max_tokens=64)
    policy = Policy(continuous, slots, budget, drafts, chunked)
    return Scheduler(policy, Pool((KvShape(1, 2, 2),), config, torch.float32, torch.device("cpu")))


def submit(to: Scheduler, *lengths: tuple[int, int]) -> list[Sequence]:
    from advisor.backends.runtime.scheduler import Sequence

    sequences = [
        Sequence(index=index, tokens=[7] * prompt, prompt_tokens=prompt, output_tokens=output, submitted_s=0.0)
        for index, (prompt, output) in enumerate(lengths)
    ]
    for sequence in sequences:
        to.submit(sequence)
    return sequences


def play(tasks: list[ScheduledChunk]) -> None:
    """What the engine does after a step: the cache has the tokens, and those that are through get one more."""
    for task in tasks:
        assert task.sequence.cache is not None
        task.sequence.cache.tokens += task.count
        if task.sequence.uncached_tokens == 0:
            task.sequence.tokens.append(8)


def shape(tasks: list[ScheduledChunk]) -> list[tuple[int, int]]:
    return [(task.sequence.index, task.count) for task in tasks]


def test_without_a_budget_each_prompt_is_a_step_of_its_own() -> None:
    line = scheduler()
    submit(line, (5, 4), (3, 4))
    steps = []
    for _ in range(3):
        tasks = line.schedule()
        steps.append(shape(tasks))
        play(tasks)
    assert steps == [[(0, 5)], [(1, 3)], [(0, 1), (1, 1)]]


def test_a_budget_mixes_decodes_with_chunks_of_prompts_and_is_never_exceeded() -> None:
    line = scheduler(budget=6)
    submit(line, (4, 9), (11, 9), (5, 9))
    seen = []
    for _ in range(5):
        tasks = line.schedule()
        assert sum(task.count + task.drafts for task in tasks) <= 6
        seen.append(shape(tasks))
        play(tasks)
    assert seen == [[(0, 4), (1, 2)], [(0, 1), (1, 5)], [(0, 1), (1, 4), (2, 1)], [(0, 1), (1, 1), (2, 4)], [(0, 1), (1, 1), (2, 1)]]


def test_prompts_that_are_not_cut_share_a_step_while_they_fit_and_a_longer_one_has_its_own() -> None:
    line = scheduler(budget=6, chunked=False, slots=4)
    submit(line, (2, 9), (3, 9), (11, 9), (5, 9))
    seen = []
    for _ in range(4):
        tasks = line.schedule()
        seen.append(shape(tasks))
        play(tasks)
    decoding = [(0, 1), (1, 1)]
    assert seen == [[(0, 2), (1, 3)], [*decoding, (2, 11)], [*decoding, (2, 1), (3, 5)], [*decoding, (2, 1), (3, 1)]]


def test_a_static_batch_admits_no_request_until_all_are_done() -> None:
    line = scheduler(continuous=False, slots=2)
    first, second, third = submit(line, (2, 3), (2, 3), (2, 3))
    for _ in range(3):
        play(line.schedule())
    line.finish(first)
    assert {task.sequence.index for task in line.schedule()} == {1}
    line.finish(second)
    assert shape(line.schedule()) == [(third.index, 2)]


def test_continuous_batching_fills_a_slot_at_once() -> None:
    line = scheduler(slots=2)
    first, *_ = submit(line, (2, 3), (2, 3), (2, 3))
    for _ in range(3):
        play(line.schedule())
    line.finish(first)
    assert shape(line.schedule()) == [(2, 2)]


def test_the_youngest_gives_way_and_starts_over_with_what_it_has() -> None:
    line = scheduler(blocks=5, block_tokens=4)
    older, younger = submit(line, (4, 12), (4, 12))
    while not line.preemptions:
        play(line.schedule())
    assert younger.cache is None
    assert list(line.waiting) == [younger]
    assert younger.uncached_tokens == len(younger.tokens) > 4
    assert older.cache is not None


def test_drafts_never_push_anybody_out_nor_reach_past_the_last_token() -> None:
    line = scheduler(blocks=3, block_tokens=4, drafts=4)
    (only,) = submit(line, (8, 3))
    play(line.schedule())
    assert [(task.count, task.drafts) for task in line.schedule()] == [(1, 1)]
    assert only.remaining == 2


def test_a_request_that_no_pool_could_hold_is_refused_with_the_numbers() -> None:
    with pytest.raises(AdvisorError, match="needs 5 blocks of 4 tokens and the cache has 3") as refusal:
        submit(scheduler(blocks=3), (10, 8))
    assert (refusal.value.code, refusal.value.exit_code) == ("kv-pool-too-small", ExitCode.DIED)


def test_a_request_longer_than_a_slot_is_refused() -> None:
    with pytest.raises(AdvisorError, match="65 tokens is longer than the 64 tokens"):
        submit(scheduler(), (60, 5))
