"""A cache that forgets: it computes the model under an explicit mask, holds a bounded part, and uses again what it gave back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.backends.deployment import (
    Attention,
    AttentionBackend,
    Batching,
    BatchPolicy,
    CacheRetention,
    Deployment,
    KvCache,
    KvLayout,
    Weights,
)
from advisor.backends.measure.score import window_log_probs
from advisor.backends.model.loaded_model import LoadedModel
from advisor.estimate.estimator import Estimator
from advisor.estimate.machines.catalogue import CatalogueMachine
from advisor.profiles.architectures.read import read_config
from advisor.profiles.engines import load_engine
from advisor.profiles.errors import AdvisorError
from advisor.profiles.formats import GIB
from advisor.profiles.hardware import load_hardware
from advisor.profiles.request import Workload

if TYPE_CHECKING:
    import torch

    from advisor.backends.runtime.engine import GenerationRequest

BLOCK = 4


def masked(length: int, passes: Sequence[tuple[int, int]], window: int) -> torch.Tensor:
    """What each token sees: its own pass up to itself, and of what came before the pass what its first token sees."""
    import torch

    seen = torch.zeros(length, length, dtype=torch.bool)
    for start, end in passes:
        for position in range(start, end):
            seen[position, max(start - window + 1, 0) : position + 1] = True
    return seen


def expected(model: Any, tokens: Sequence[int], seen: torch.Tensor) -> torch.Tensor:
    """Logits [T, V] of transformers' own eager attention under the mask."""
    import torch

    mask = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
    with torch.inference_mode():
        logits: torch.Tensor = model(input_ids=torch.tensor([tokens]), attention_mask=mask[None, None], use_cache=False).logits[0]
    return logits


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2"])
@pytest.mark.parametrize("sizes", [(13,), (7, 9, 5), (1,)], ids=["whole", "chunks", "one-by-one"])
@pytest.mark.parametrize("window", [1, 6, 11])
def test_logits_are_those_of_the_model_under_the_mask(
    build_model: Callable[..., Any],
    open_session: Callable[..., LoadedModel],
    architecture: str,
    attention: str,
    sizes: tuple[int, ...],
    window: int,
    text: Callable[..., tuple[int, ...]],
    passes_of: Callable[..., list[tuple[int, int]]],
    cached_logits: Callable[..., tuple[torch.Tensor, int]],
) -> None:
    import torch

    soft = {"head_dim": 16, "sliding_window": 200, "query_pre_attn_scalar": 16} if architecture == "gemma2" else {}
    model, tokens = build_model(architecture, **soft), text(34)
    passes = passes_of(len(tokens), sizes)
    session = open_session(model, attention=attention, kv_layout="paged", kv_block_tokens=BLOCK, kv_window=window, max_sequences=1)
    actual, peak = cached_logits(session, tokens, passes)
    torch.testing.assert_close(actual, expected(model, tokens, masked(len(tokens), passes, window)), atol=2e-4, rtol=2e-4)
    assert peak <= max(CacheRetention(window).blocks(end, BLOCK, new=end - start) for start, end in passes)


def test_quality_is_scored_as_decoding_would_find_the_cache(
    llama: Any, open_session: Callable[..., LoadedModel], text: Callable[..., tuple[int, ...]]
) -> None:
    import torch

    tokens = text(40)
    session = open_session(llama, kv_layout="paged", kv_block_tokens=BLOCK, kv_window=9)
    (actual,) = window_log_probs(session, torch.tensor([tokens]), lambda done, total: None)
    one_by_one = [(position, position + 1) for position in range(40)]
    exact = expected(llama, tokens, masked(40, one_by_one, 9)).log_softmax(-1)[:-1]
    torch.testing.assert_close(actual, exact, atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("budget", [0, 9])
@pytest.mark.parametrize("layout", ["paged", "contiguous"])
def test_a_window_as_long_as_the_text_changes_no_token(
    llama: Any,
    open_session: Callable[..., LoadedModel],
    generate: Callable[[Any, Sequence[GenerationRequest]], list[tuple[int, ...]]],
    attention: str,
    budget: int,
    layout: str,
    text: Callable[..., tuple[int, ...]],
) -> None:
    from advisor.backends.runtime.engine import GenerationRequest, serve

    jobs = [GenerationRequest(text(length, length), 12) for length in (5, 21, 33)]
    settings = {"kv_layout": layout, "kv_block_tokens": BLOCK, "kv_window": 45, "batching": "continuous", "token_budget": budget}
    session = open_session(llama, attention=attention, **settings)
    assert [done.tokens for done in serve(session, jobs, concurrency=None).finished] == generate(llama, jobs)


@pytest.mark.parametrize("decoding", ["plain", "prompt-lookup"])
def test_a_stream_of_ten_windows_holds_no_more_than_one(
    llama: Any,
    open_session: Callable[..., LoadedModel],
    decoding: str,
    text: Callable[..., tuple[int, ...]],
    block_bytes: Callable[[Any], int],
) -> None:
    from advisor.backends.runtime.engine import GenerationRequest, serve

    window, drafts = 12, 3 if decoding != "plain" else 0
    settings = {"kv_layout": "paged", "kv_block_tokens": BLOCK, "kv_window": window, "max_tokens": 140, "max_sequences": 1}
    session = open_session(llama, **settings, decoding=decoding, draft_tokens=drafts, token_budget=8, batching="continuous")
    outcome = serve(session, [GenerationRequest(text(5), 120)], concurrency=None)
    per_block = outcome.kv_bytes // (outcome.kv_bytes // block_bytes(llama))
    used_blocks = outcome.kv_used_bytes_peak // per_block
    assert used_blocks <= CacheRetention(window).blocks(125, BLOCK, new=1 + drafts)
    assert len(outcome.finished[0].tokens) == 120


def test_speculation_gives_the_tokens_of_plain_decoding_though_blocks_leave(
    llama: Any, open_session: Callable[..., LoadedModel], text: Callable[..., tuple[int, ...]]
) -> None:
    from advisor.backends.runtime.engine import GenerationRequest, serve

    jobs = [GenerationRequest(text(3, seed) * 9, 40) for seed in range(3)]
    settings = {"kv_layout": "paged", "kv_block_tokens": BLOCK, "kv_window": 10}
    plain = serve(open_session(llama, **settings), jobs, concurrency=None)
    drafted = serve(open_session(llama, **settings, decoding="prompt-lookup", draft_tokens=4), jobs, concurrency=None)
    assert [done.tokens for done in drafted.finished] == [done.tokens for done in plain.finished]
    assert drafted.accepted < drafted.proposed, "some drafts were taken back"


@pytest.mark.parametrize("kv_format", ["bf16", "fp8", "int8", "int4"])
def test_sequences_of_a_batch_forget_each_for_itself(
    kv_format: str, llama: Any, open_session: Callable[..., LoadedModel], text: Callable[..., tuple[int, ...]]
) -> None:
    from advisor.backends.runtime.engine import GenerationRequest, serve

    jobs = [GenerationRequest(text(length, length), 30) for length in (3, 17, 8, 26)]
    settings = {"kv_layout": "paged", "kv_block_tokens": BLOCK, "kv_window": 10, "kv_format": kv_format}
    alone = [serve(open_session(llama, **settings), [job], concurrency=None).finished[0].tokens for job in jobs]
    together = serve(open_session(llama, **settings, batching="continuous"), jobs, concurrency=None)
    assert [done.tokens for done in together.finished] == alone


@pytest.mark.parametrize("budget", [0, 16])
def test_prompts_longer_than_the_whole_cache_run(
    llama: Any,
    open_session: Callable[..., LoadedModel],
    budget: int,
    text: Callable[..., tuple[int, ...]],
    block_bytes: Callable[[Any], int],
) -> None:
    """Ten blocks hold 40 tokens; the prompts have 70, and their passes give room to one another."""
    from advisor.backends.runtime.engine import GenerationRequest, serve

    settings = {"kv_layout": "paged", "kv_block_tokens": BLOCK, "kv_window": 12, "kv_capacity_tokens": 40, "token_budget": budget}
    session = open_session(llama, **settings, batching="continuous", max_sequences=3, max_tokens=90)
    outcome = serve(session, [GenerationRequest(text(70, seed), 10) for seed in range(4)], concurrency=None)
    assert all(len(done.tokens) == 10 for done in outcome.finished)
    assert outcome.kv_used_bytes_peak <= 10 * block_bytes(llama)


def test_a_cache_too_small_for_one_window_is_refused(
    llama: Any, open_session: Callable[..., LoadedModel], text: Callable[..., tuple[int, ...]]
) -> None:
    from advisor.backends.runtime.engine import GenerationRequest, serve

    settings = {"kv_layout": "paged", "kv_block_tokens": BLOCK, "kv_window": 30, "kv_capacity_tokens": 20}
    with pytest.raises(AdvisorError, match="needs 9 blocks of 4 tokens and the cache has 5"):
        serve(open_session(llama, **settings), [GenerationRequest(text(50), 10)], concurrency=None)


def test_layers_with_windows_of_their_own_give_blocks_back(
    build_model: Callable[..., Any],
    open_session: Callable[..., LoadedModel],
    generate: Callable[[Any, Sequence[GenerationRequest]], list[tuple[int, ...]]],
    text: Callable[..., tuple[int, ...]],
    block_bytes: Callable[[Any], int],
) -> None:
    from advisor.backends.runtime.engine import GenerationRequest, serve

    model, jobs = build_model("mistral", sliding_window=7), [GenerationRequest(text(6), 60)]
    session = open_session(model, kv_layout="paged", kv_block_tokens=BLOCK, max_sequences=1)
    outcome = serve(session, jobs, concurrency=None)
    assert [done.tokens for done in outcome.finished] == generate(model, jobs)
    assert outcome.kv_used_bytes_peak // block_bytes(model) <= CacheRetention(7).blocks(66, BLOCK)


def test_memory_is_reserved_for_what_stays_and_one_prompt(llama: Any, open_session: Callable[..., LoadedModel]) -> None:
    from advisor.backends.runtime.prepare import prepared_session

    settings = {"kv_layout": "paged", "kv_block_tokens": BLOCK, "max_tokens": 400, "max_sequences": 4}
    with prepared_session(open_session(llama, **settings, kv_window=16)) as ready:
        blocks = CacheRetention(16).blocks(400, BLOCK)
        assert 4 * blocks + 100 <= ready.runner.pool.config.blocks <= 4 * blocks + 101
    with prepared_session(open_session(llama, **settings)) as ready:
        assert ready.runner.pool.config.blocks == 400


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    window=st.integers(1, 20), first=st.integers(0, 9), block=st.integers(1, 6), steps=st.lists(st.integers(1, 9), min_size=1, max_size=12)
)
def test_every_visible_token_is_retained_and_no_more_blocks_than_predicted(window: int, first: int, block: int, steps: list[int]) -> None:
    retention, tokens = CacheRetention(window, first), 0
    for new in steps:
        evicted, front = retention.evicted(tokens, block), retention.front_blocks(block) * block
        stay = [position for position in range(tokens) if not front <= position < front + evicted]
        assert {position for position in range(tokens) if position < first or position > tokens - window} <= set(stay)
        blocks = {position // block for position in [*stay, *range(tokens, tokens + new)]}
        assert len(blocks) <= retention.blocks(tokens + new, block, new=new)
        tokens += new


@pytest.mark.parametrize("budget", [0, 16])
@pytest.mark.parametrize("first", [0, 3])
def test_the_cache_holds_what_was_predicted(
    llama: Any, open_session: Callable[..., LoadedModel], text: Callable[..., tuple[int, ...]], first: int, budget: int
) -> None:
    """The prediction counts the worst place of every window in its blocks, and prompts that pass at once: it bounds what is held."""
    from advisor.backends.runtime.engine import GenerationRequest, serve

    spec = read_config(llama.config.to_dict(), id="tiny")
    batching = Batching(BatchPolicy.CONTINUOUS if budget else BatchPolicy.STATIC, 3, budget, chunked=budget > 0)
    kv = KvCache(KvLayout.PAGED, BLOCK, window=12, sink_tokens=first)
    deployment = Deployment(spec, Weights("fp32"), Attention(AttentionBackend.SDPA), kv, batching=batching)
    engine, workload = load_engine("advisor"), Workload(prompt_tokens=40, output_tokens=20, concurrency=3)
    machine = CatalogueMachine(load_hardware("h100-sxm"), engine.gpu)
    predicted = Estimator(machine, engine).metrics(deployment, workload, lengths=[(40, 20)] * 3).kv_cache_gib
    assert predicted is not None
    bytes_per_token = 2 * 2 * 2 * 16 * 2
    blocks = predicted.value * GIB / bytes_per_token / BLOCK
    settings = {"kv_layout": "paged", "kv_block_tokens": BLOCK, "kv_window": 12, "kv_sink_tokens": first}
    session = open_session(llama, **settings, batching=batching.policy, token_budget=budget, chunked=budget > 0, max_sequences=3)
    outcome = serve(session, [GenerationRequest(text(40, seed), 20) for seed in range(3)], concurrency=3)
    measured = outcome.kv_used_bytes_peak / (outcome.kv_bytes / outcome_blocks(session))
    assert measured <= blocks <= 1.5 * measured, (measured, blocks)


def outcome_blocks(session: LoadedModel) -> int:
    """Blocks that the session's pool allocates."""
    from advisor.backends.runtime.prepare import prepared_session

    with prepared_session(session) as ready:
        return ready.runner.pool.config.blocks
