"""Requests that begin alike share what they have in common: nothing is lost, nothing is wrong, and the work is spared."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from advisor.backends.deployment import BatchPolicy, baseline
from advisor.backends.model.loaded_model import LoadedModel
from advisor.backends.runtime.cache.prefix import START, PrefixCache
from advisor.estimate.machines.catalogue import CatalogueMachine
from advisor.estimate.serving.scheduler import Scheduler
from advisor.estimate.serving.scheduler_rules import SchedulerRules
from advisor.estimate.steps.pricer import StepPricer
from advisor.profiles.engines import load_engine
from advisor.profiles.hardware import load_hardware
from advisor.profiles.model_store import find_model

if TYPE_CHECKING:
    from advisor.backends.runtime.cache.pool import Pool, SequenceBlocks
    from advisor.backends.runtime.engine import GenerationRequest

PREFIX = 21
SIZE = 4


def sharing_jobs(seed: int, count: int, *, prefix: int = PREFIX, own: int = 12, outputs: int = 15) -> list[GenerationRequest]:
    from advisor.backends.runtime.engine import GenerationRequest

    draw = random.Random(seed)
    common = tuple(draw.randrange(3, 64) for _ in range(prefix))
    rest = [tuple(draw.randrange(3, 64) for _ in range(draw.randint(1, own))) for _ in range(count)]
    return [GenerationRequest(common + tail, draw.randint(1, outputs)) for tail in rest]


def new_pool(blocks: int, sequences: int = 4) -> Pool:
    import torch

    from advisor.backends.runtime.cache.pool import CacheConfig, KvShape, Pool

    config = CacheConfig(blocks=blocks, block_tokens=SIZE, sequences=sequences, max_tokens=64, prefix_reuse=True)
    return Pool((KvShape(1, 2, 2),), config, torch.float32, torch.device("cpu"))


def filled(pool: Pool, tokens: Sequence[int]) -> SequenceBlocks:
    """A sequence whose tokens but the last are cached and known."""
    sequence = pool.open()
    pool.match_prefix(sequence, tokens)
    assert pool.allocate(sequence, len(tokens))
    sequence.tokens = len(tokens) - 1
    pool.insert_prefix(sequence, tokens)
    return sequence


def test_a_block_is_known_by_its_tokens_and_by_what_stands_before_them() -> None:
    cache = PrefixCache()
    first = cache.add(START, (1, 2), block=5)
    second = cache.add(first, (1, 2), block=6)
    assert cache.find(START, [1, 2]) == 5
    assert cache.find(first, [1, 2]) == 6
    assert cache.find(second, [1, 2]) is None
    assert cache.find(START, [2, 1]) is None


def test_full_blocks_are_shared_and_the_rest_is_ones_own() -> None:
    pool = new_pool(16)
    text = list(range(11))
    first = filled(pool, text)
    second = pool.open()
    assert pool.match_prefix(second, [*text[:9], 50, 51]) == 8
    assert second.blocks == first.blocks[:2]
    assert pool.free_blocks == 13


def test_one_token_at_least_is_left_to_compute() -> None:
    pool = new_pool(16)
    filled(pool, list(range(9)))
    assert pool.match_prefix(pool.open(), list(range(8))) == 4


def test_what_a_finished_sequence_left_is_found_until_its_blocks_are_needed() -> None:
    pool = new_pool(4)
    pool.free(filled(pool, list(range(13))))
    assert pool.free_blocks == 4
    again = pool.open()
    assert pool.match_prefix(again, list(range(13))) == 12
    pool.free(again)
    other = pool.open()
    assert pool.allocate(other, 8)
    assert pool.match_prefix(pool.open(), list(range(13))) == 8, "the end of a text goes before its beginning"


def test_a_block_in_use_is_never_given_up() -> None:
    pool = new_pool(4)
    first = filled(pool, list(range(9)))
    pool.free(filled(pool, list(range(9))))
    other = pool.open()
    assert not pool.allocate(other, 8), "three of four blocks are held"
    assert pool.match_prefix(pool.open(), list(range(9))) == 8
    assert not set(other.blocks) & set(first.blocks)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), blocks=st.integers(4, 14))
def test_no_block_is_lost_or_written_by_two_whatever_is_opened_and_closed(seed: int, blocks: int) -> None:
    """Texts of two letters begin alike often. A block's text is what was written into it: no lookup may return another."""
    draw, pool = random.Random(seed), new_pool(blocks)
    alive: list[tuple[SequenceBlocks, list[int]]] = []
    written: dict[int, tuple[int, ...]] = {}
    for _ in range(50):
        if len(alive) < 4 and draw.random() < 0.6:
            text = [draw.randrange(2) for _ in range(draw.randint(1, 4 * SIZE))]
            sequence = pool.open()
            pool.match_prefix(sequence, text)
            for index, block in enumerate(sequence.blocks):
                assert written[block] == tuple(text[: (index + 1) * SIZE])
            if not pool.allocate(sequence, len(text)):
                pool.free(sequence)
                continue
            for index in range(sequence.tokens // SIZE, len(sequence.blocks)):
                written[sequence.blocks[index]] = tuple(text[: (index + 1) * SIZE])
            sequence.tokens = len(text) - 1
            pool.insert_prefix(sequence, text)
            alive.append((sequence, text))
        elif alive:
            pool.free(alive.pop(draw.randrange(len(alive)))[0])
        for sequence, text in alive:
            assert [written[block] for block in sequence.blocks] == [
                tuple(text[: (index + 1) * SIZE]) for index in range(len(sequence.blocks))
            ]
        distinct = {block for sequence, _ in alive for block in sequence.blocks}
        assert len(distinct) + pool.free_blocks == blocks


LAYOUTS: dict[str, dict[str, Any]] = {"roomy": {}, "tight": {"kv_capacity_tokens": 60}}
BATCHINGS: dict[str, dict[str, Any]] = {
    "static": {},
    "continuous": {"batching": "continuous"},
    "chunks": {"batching": "continuous", "token_budget": 10},
    "whole": {"batching": "continuous", "token_budget": 10, "chunked": False},
}


@pytest.mark.parametrize(("layout", "batching", "decoding"), list(product(LAYOUTS, BATCHINGS, ("plain", "prompt-lookup", "draft"))))
def test_shared_prefixes_change_no_token(
    layout: str,
    batching: str,
    decoding: str,
    llama: Any,
    draft: Any,
    open_session: Callable[..., LoadedModel],
    generate: Callable[[Any, Sequence[GenerationRequest]], list[tuple[int, ...]]],
) -> None:
    from advisor.backends.runtime.engine import serve

    jobs = sharing_jobs(3, 6)
    drafting: dict[str, Any] = {} if decoding == "plain" else {"decoding": decoding, "draft_tokens": 3, "draft_model": draft}
    session = open_session(
        llama, kv_layout="paged", kv_block_tokens=4, kv_prefix_reuse=True, **LAYOUTS[layout], **BATCHINGS[batching], **drafting
    )
    outcome = serve(session, jobs, concurrency=3)
    assert [done.tokens for done in outcome.finished] == generate(llama, jobs)
    assert outcome.reused_tokens >= 3 * 20, "those who come later find the five full blocks of 21 tokens"
    if layout == "tight" and decoding == "plain" and batching != "static":
        assert outcome.preemptions > 0, "the pool is meant to run dry"


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10**6),
    prefix=st.integers(1, 30),
    block=st.integers(1, 12),
    slack=st.integers(0, 40),
    budget=st.one_of(st.just(0), st.integers(1, 40)),
    chunked=st.booleans(),
    decoding=st.sampled_from(["plain", "prompt-lookup"]),
)
def test_reuse_gives_the_tokens_that_computing_gives(
    seed: int,
    prefix: int,
    block: int,
    slack: int,
    budget: int,
    chunked: bool,
    decoding: str,
    llama: Any,
    open_session: Callable[..., LoadedModel],
) -> None:
    from advisor.backends.runtime.engine import serve

    jobs = sharing_jobs(seed, 5, prefix=prefix, outputs=8)
    longest = max(len(job.prompt) + job.output_tokens for job in jobs)
    options: dict[str, Any] = {
        "max_tokens": longest,
        "kv_layout": "paged",
        "kv_block_tokens": block,
        "kv_capacity_tokens": (-(-longest // block) + slack // block) * block,
        "batching": "continuous",
        "token_budget": budget,
        "chunked": chunked,
        "decoding": decoding,
        "draft_tokens": 3 if decoding == "prompt-lookup" else 0,
    }
    plain, reused = (serve(open_session(llama, kv_prefix_reuse=wanted, **options), jobs, concurrency=2) for wanted in (False, True))
    assert [done.tokens for done in reused.finished] == [done.tokens for done in plain.finished]
    assert plain.reused_tokens == 0


@pytest.mark.parametrize("kv_format", ["fp8", "int8", "int4"])
def test_blocks_of_a_rounded_cache_are_shared_too(kv_format: str, llama: Any, open_session: Callable[..., LoadedModel]) -> None:
    """A shared block is full, so it is rounded; the newest page of an int4 cache belongs to its sequence."""
    from advisor.backends.runtime.engine import serve

    jobs = sharing_jobs(5, 6)
    settings = {"kv_layout": "paged", "kv_block_tokens": 4, "kv_prefix_reuse": True, "batching": "continuous", "token_budget": 12}
    exact, rounded = (serve(open_session(llama, kv_format=format, **settings), jobs, concurrency=2) for format in ("bf16", kv_format))
    assert rounded.reused_tokens == exact.reused_tokens > 0
    assert [len(done.tokens) for done in rounded.finished] == [job.output_tokens for job in jobs]
    first = [ours.tokens[0] == theirs.tokens[0] for ours, theirs in zip(rounded.finished, exact.finished, strict=True)]
    assert sum(first) >= 4, "of 6 first tokens, each of which chance would meet once in 64"


def test_the_spared_tokens_are_not_fed(llama: Any, open_session: Callable[..., LoadedModel]) -> None:
    """One after another: the first feeds all, the others what stands behind the ten full blocks of 42 tokens."""
    from advisor.backends.runtime.engine import GenerationRequest, serve

    jobs = [GenerationRequest((*tuple(range(3, 45)), 50 + index, 7), 2) for index in range(4)]
    session = open_session(llama, kv_layout="paged", kv_block_tokens=4, kv_prefix_reuse=True)
    outcome = serve(session, jobs, concurrency=1)
    assert (outcome.reused_tokens, outcome.prefill_tokens) == (3 * 40, 44 + 3 * 4)
    assert outcome.kv_used_bytes_peak == outcome.kv_bytes * 12 // (4 * 20), "twelve of the blocks of four slots of 80 tokens"


def test_a_contiguous_cache_shares_nothing(llama: Any, open_session: Callable[..., LoadedModel]) -> None:
    from advisor.backends.runtime.engine import serve

    assert serve(open_session(llama, kv_prefix_reuse=True), sharing_jobs(1, 4), concurrency=1).reused_tokens == 0


@pytest.mark.parametrize("batching", ["static", "chunks", "whole"])
@pytest.mark.parametrize("concurrency", [1, 3])
def test_what_is_found_is_what_was_predicted(batching: str, concurrency: int, llama: Any, open_session: Callable[..., LoadedModel]) -> None:
    """Of equal requests, as a run serves them: the scheduler on paper skips the very tokens that the real one does."""
    from advisor.backends.runtime.engine import GenerationRequest, serve

    jobs = [GenerationRequest((*range(3, 24), 40 + index, 7, 9), 5) for index in range(9)]
    settings = {"max_sequences": 3, **BATCHINGS[batching]}
    outcome = serve(
        open_session(llama, kv_layout="paged", kv_block_tokens=4, kv_prefix_reuse=True, **settings), jobs, concurrency=concurrency
    )
    stack = baseline(find_model("meta-llama/Meta-Llama-3.1-8B"), max_sequences=3)
    machine = CatalogueMachine(load_hardware("h100-sxm"), load_engine("advisor").gpu)
    rules = SchedulerRules(
        policy=BatchPolicy.STATIC if batching == "static" else BatchPolicy.CONTINUOUS,
        max_sequences=3, token_budget=10, chunked=batching != "whole",
        shared_tokens=20, block_tokens=4,
    )  # fmt: skip
    done = Scheduler(StepPricer(stack, machine), rules).serve([(24, 5)] * 9, in_flight=concurrency)
    assert outcome.reused_tokens == sum(request.reused for request in done)
