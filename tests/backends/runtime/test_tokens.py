"""Greedy tokens are those of `model.generate`, whatever the layout, batching, attention and decoding."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from advisor.backends.model.loaded_model import LoadedModel
from tests.backends.sessions import with_settings

if TYPE_CHECKING:
    from advisor.backends.runtime.engine import GenerationRequest

LAYOUTS: dict[str, dict[str, Any]] = {
    "contiguous": {},
    "paged": {"kv_layout": "paged", "kv_block_tokens": 8},
    "paged-tight": {"kv_layout": "paged", "kv_block_tokens": 4, "kv_capacity_tokens": 48},
}
BATCHINGS: dict[str, dict[str, Any]] = {
    "static": {},
    "continuous": {"batching": "continuous"},
    "continuous-budget": {"batching": "continuous", "token_budget": 12},
    "continuous-whole": {"batching": "continuous", "token_budget": 12, "chunked": False},
}
DECODINGS = ("plain", "prompt-lookup", "draft", "draft-itself")


def mixed_jobs(seed: int, count: int, *, prompts: int = 40, outputs: int = 25) -> list[GenerationRequest]:
    from advisor.backends.runtime.engine import GenerationRequest

    draw = random.Random(seed)
    return [
        GenerationRequest(tuple(draw.randrange(3, 64) for _ in range(draw.randint(1, prompts))), draw.randint(1, outputs))
        for _ in range(count)
    ]


@pytest.fixture(scope="module")
def expected(
    llama: Any, generate: Callable[[Any, Sequence[GenerationRequest]], list[tuple[int, ...]]]
) -> tuple[list[GenerationRequest], list[tuple[int, ...]]]:
    jobs = mixed_jobs(0, 5, prompts=20, outputs=24)
    tokens = generate(llama, jobs)
    assert len(set(sum(tokens, ()))) > 20, "the model must not repeat one token, or any mistake would pass"
    return jobs, tokens


@pytest.mark.parametrize(
    ("attention", "layout", "batching", "decoding"), list(product(("eager", "sdpa", "flash"), LAYOUTS, BATCHINGS, DECODINGS))
)
def test_every_lossless_stack_generates_the_same_tokens(
    attention: str,
    layout: str,
    batching: str,
    decoding: str,
    llama: Any,
    draft: Any,
    open_session: Callable[..., LoadedModel],
    expected: tuple[list[GenerationRequest], list[tuple[int, ...]]],
) -> None:
    from advisor.backends.runtime.attention.autotune import Autotuner
    from advisor.backends.runtime.engine import serve

    drafting: dict[str, Any] = {
        "plain": {},
        "prompt-lookup": {"decoding": "prompt-lookup", "draft_tokens": 3},
        "draft": {"decoding": "draft", "draft_tokens": 3, "draft_model": draft},
        "draft-itself": {"decoding": "draft", "draft_tokens": 4, "draft_model": llama},
    }[decoding]
    implementations: dict[str, Any] = {"attention": attention} | ({"autotuner": Autotuner()} if attention == "flash" else {})
    session = open_session(llama, **implementations, **LAYOUTS[layout], **BATCHINGS[batching], **drafting)
    outcome = serve(session, expected[0], concurrency=None)
    assert [done.tokens for done in outcome.finished] == expected[1]
    assert (outcome.proposed > 0) == (decoding != "plain")
    if decoding == "draft-itself":
        assert outcome.accepted == outcome.proposed, "a model foresees itself"
    if layout == "paged-tight" and decoding == "plain":
        assert outcome.preemptions > 0, "the pool is meant to run dry"


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 7),
    slots=st.integers(1, 5),
    block=st.integers(1, 20),
    budget=st.one_of(st.just(0), st.integers(1, 60)),
    slack=st.integers(0, 60),
    continuous=st.booleans(),
    chunked=st.booleans(),
    decoding=st.sampled_from(["plain", "prompt-lookup", "draft"]),
    drafts=st.integers(1, 6),
    attention=st.sampled_from(["eager", "sdpa"]),
    concurrency=st.one_of(st.none(), st.integers(1, 8)),
)
def test_any_mix_of_lengths_blocks_budgets_and_pool_sizes_generates_the_same_tokens(
    seed: int,
    count: int,
    slots: int,
    block: int,
    budget: int,
    slack: int,
    continuous: bool,
    chunked: bool,
    decoding: str,
    drafts: int,
    attention: str,
    concurrency: int | None,
    llama: Any,
    draft: Any,
    open_session: Callable[..., LoadedModel],
    generate: Callable[[Any, Sequence[GenerationRequest]], list[tuple[int, ...]]],
) -> None:
    from advisor.backends.runtime.engine import serve

    jobs = mixed_jobs(seed, count, prompts=30, outputs=12)
    longest = max(len(job.prompt) + job.output_tokens for job in jobs)
    session = open_session(
        llama,
        attention=attention,
        max_tokens=longest,
        max_sequences=slots,
        kv_layout="paged",
        kv_block_tokens=block,
        kv_capacity_tokens=(-(-longest // block) + slack // block) * block,
        batching="continuous" if continuous else "static",
        token_budget=budget,
        chunked=chunked,
        decoding=decoding,
        draft_tokens=0 if decoding == "plain" else drafts,
        draft_model=draft if decoding == "draft" else None,
    )
    outcome = serve(session, jobs, concurrency=concurrency)
    assert [done.tokens for done in outcome.finished] == generate(llama, jobs)
    assert all(seconds > 0 for seconds in outcome.step_seconds)
    assert outcome.steps == len(outcome.step_seconds)


def test_bfloat16_tokens_are_the_same_where_the_margins_are_clear(
    build_model: Callable[..., Any],
    open_session: Callable[..., LoadedModel],
    generate: Callable[[Any, Sequence[GenerationRequest]], list[tuple[int, ...]]],
) -> None:
    import torch

    from advisor.backends.runtime.engine import serve

    model = build_model("llama", tie_word_embeddings=True, initializer_range=0.4).to(torch.bfloat16)
    jobs = mixed_jobs(5, 5, prompts=20, outputs=24)
    wanted = generate(model, jobs)
    for layout, batching in product(LAYOUTS, BATCHINGS):
        session = open_session(model, **LAYOUTS[layout], **BATCHINGS[batching])
        tokens = [done.tokens for done in serve(session, jobs, concurrency=None).finished]
        same = sum(ours == theirs for ours, theirs in zip(sum(tokens, ()), sum(wanted, ()), strict=True))
        assert tokens == wanted, f"{layout}, {batching}: {same} of {len(sum(wanted, ()))} tokens the same"


def test_end_of_text_ends_a_sequence_where_stopping_is_enabled(llama: Any, open_session: Callable[..., LoadedModel]) -> None:
    from advisor.backends.runtime.engine import serve

    jobs = mixed_jobs(0, 6)
    plain = serve(open_session(llama), jobs, concurrency=None)
    stop = plain.finished[0].tokens[2]
    before = llama.generation_config.eos_token_id
    llama.generation_config.eos_token_id = [stop]
    try:
        for decoding in ({}, {"decoding": "draft", "draft_tokens": 4, "draft_model": llama}):
            ended = serve(open_session(llama, **decoding), jobs, concurrency=None, ignore_eos=False)
            for whole, cut in zip(plain.finished, ended.finished, strict=True):
                length = whole.tokens.index(stop) + 1 if stop in whole.tokens else len(whole.tokens)
                assert cut.tokens == whole.tokens[:length]
    finally:
        llama.generation_config.eos_token_id = before


def test_speculation_needs_fewer_steps(llama: Any, open_session: Callable[..., LoadedModel]) -> None:
    from advisor.backends.runtime.engine import GenerationRequest, serve

    jobs = [GenerationRequest((5, 6, 7, 8) * 6, 40)]
    session = open_session(llama)
    plain = serve(session, jobs, concurrency=None)
    itself = serve(with_settings(session, decoding="draft", draft_tokens=4, draft_model=llama), jobs, concurrency=None)
    assert itself.steps <= 1 + -(-39 // 5)
    assert plain.steps == 40
    assert itself.finished[0].tokens == plain.finished[0].tokens
