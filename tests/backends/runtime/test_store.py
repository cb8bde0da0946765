"""What a quantised cache gives back: rounded rows, the newest page of int4 as it was, whatever a sequence has been through."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from advisor.backends.deployment import CacheRetention
from advisor.backends.model.loaded_model import LoadedModel
from advisor.profiles.errors import AdvisorError
from advisor.profiles.formats import CONTIGUOUS_PAGE_TOKENS

if TYPE_CHECKING:
    import torch

    from advisor.backends.runtime.cache.pool import KvShape, Pool, SequenceBlocks
    from advisor.backends.runtime.engine import GenerationRequest

KV_HEADS, WIDTH = 2, 16
FORMATS = ("fp8", "int8", "int4")
BYTES_PER_ROW = {"fp8": 16 + 2, "int8": 16 + 2, "int4": 8 + 2}


def shape(value_width: int = WIDTH) -> KvShape:
    from advisor.backends.runtime.cache.pool import KvShape

    return KvShape(kv_heads=KV_HEADS, key_width=WIDTH, value_width=value_width)


def new_pool(kv_format: str, block: int, heads: KvShape | None = None, *, longest: int = 96, sequences: int = 3) -> Pool:
    import torch

    from advisor.backends.runtime.cache.pool import CacheConfig, Pool

    config = CacheConfig(
        blocks=sequences * -(-longest // block), block_tokens=block, sequences=sequences, max_tokens=longest, kv_format=kv_format
    )
    pool = Pool((heads or shape(),), config, torch.float32, torch.device("cpu"))
    random.Random(1).shuffle(pool._free)
    return pool


@dataclass
class Story:
    """A sequence and every key and value that it was ever given, [K, 1, D] a token."""

    cache: SequenceBlocks
    keys: list[torch.Tensor] = field(default_factory=list)
    values: list[torch.Tensor] = field(default_factory=list)


def as_stored(rows: torch.Tensor, kv_format: str) -> torch.Tensor:
    """[K, L, D] once rounded."""
    import torch

    from advisor.kernels.cache.kv_formats import dequantise, quantise, rotate

    turned = rotate(rows) if kv_format == "int4" else rows
    rounded = dequantise(*quantise(turned, kv_format), kv_format, torch.float32)
    return rotate(rounded) if kv_format == "int4" else rounded


def as_seen(rows: list[torch.Tensor], kv_format: str, page: int, position: int) -> torch.Tensor:
    """[1, K, L, D] as the query at `position` sees it: rounded, but for the page that it is in, in int4."""
    import torch

    exact = torch.cat(rows, 1)
    if kv_format == "bf16":
        return exact.unsqueeze(0)
    seen = as_stored(exact, kv_format)
    if kv_format == "int4":
        own = position // page * page
        seen[:, own:] = exact[:, own:]
    return seen.unsqueeze(0)


def check_step(pool: Pool, stories: Sequence[Story], news: Sequence[int], grouped: int, implementation: str, heads: KvShape) -> None:
    """Run one step of random tokens and compare each row with attention, in double precision, over what it should see."""
    import torch

    from advisor.backends.runtime.attention.step import AttentionStep, SequenceInput
    from advisor.backends.runtime.model.attention_hook import Options
    from advisor.kernels.attention.paged_attention import reference

    for story, new in zip(stories, news, strict=True):
        assert pool.allocate(story.cache, story.cache.tokens + new)
        del story.keys[story.cache.tokens :], story.values[story.cache.tokens :]
        story.keys += [torch.randn(heads.kv_heads, 1, heads.key_width) for _ in range(new)]
        story.values += [torch.randn(heads.kv_heads, 1, heads.value_width) for _ in range(new)]
    query = torch.randn(1, 4, sum(news), heads.key_width)
    fresh = [
        torch.cat([torch.cat(rows[story.cache.tokens :], 1) for story, rows in zip(stories, all_rows, strict=True)], 1).unsqueeze(0)
        for all_rows in ([story.keys for story in stories], [story.values for story in stories])
    ]
    step = AttentionStep(
        pool, [SequenceInput(story.cache, [0] * new) for story, new in zip(stories, news, strict=True)], grouped, implementation
    )
    out = step.attend(0, query, fresh[0], fresh[1], Options(0.4))[0]
    first = 0
    kv_format = pool.config.kv_format
    for story, new in zip(stories, news, strict=True):
        for position in range(story.cache.tokens, story.cache.tokens + new):
            keys, values = (as_seen(rows, kv_format, pool.config.page_tokens, position) for rows in (story.keys, story.values))
            row = first + position - story.cache.tokens
            tables = torch.zeros(1, 1, dtype=torch.int64)
            exact = reference(query[0, :, row : row + 1].transpose(0, 1), keys, values, tables, torch.tensor([position]), scale=0.4)
            torch.testing.assert_close(out[row : row + 1], exact, atol=5e-5, rtol=1e-4)
        first += new
        story.cache.tokens += new


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("block", [4, 16, 96])
@pytest.mark.parametrize("kv_format", FORMATS)
@pytest.mark.parametrize("value_width", [WIDTH, 12], ids=["equal", "unequal"])
def test_steps_see_rounded_rows_and_in_int4_their_own_page_exactly(
    value_width: int, kv_format: str, block: int, implementation: str
) -> None:
    """Whole prompts, chunks, decoding, verification and drafts taken back over the edge of a page."""
    import torch

    torch.manual_seed(0)
    heads = shape(value_width)
    pool = new_pool(kv_format, block, heads)
    first, second, third = (Story(pool.open()) for _ in range(3))
    check_step(pool, [first], [11], 0, implementation, heads)
    check_step(pool, [first, second], [1, 5], 1, implementation, heads)
    check_step(pool, [first, second, third], [4, 9, 30], 1, implementation, heads)
    check_step(pool, [first, second, third], [4, 1, 2], 3, implementation, heads)
    pool.truncate(first.cache, first.cache.tokens - 3)
    pool.truncate(third.cache, third.cache.tokens - 1)
    check_step(pool, [first, third, second], [1, 3, 1], 3, implementation, heads)


@pytest.mark.parametrize("kv_format", FORMATS)
@pytest.mark.parametrize("seed", range(6))
def test_any_history_leaves_the_same_view(kv_format: str, seed: int) -> None:
    """Random steps, roll-backs of up to a page, sequences that end and rows that begin again for others."""
    import torch

    draw = random.Random(seed)
    torch.manual_seed(seed)
    block = draw.choice((2, 3, 8, 96))
    pool = new_pool(kv_format, block)
    stories = [Story(pool.open()) for _ in range(3)]
    for _ in range(12):
        for index, story in enumerate(stories):
            if draw.random() < 0.15 or story.cache.tokens > 70:
                pool.free(story.cache)
                stories[index] = Story(pool.open())
        started = sorted((story for story in stories if story.cache.tokens), key=lambda story: story.cache.row)
        chunks = [story for story in stories if not story.cache.tokens or draw.random() < 0.2]
        group = [story for story in started if story not in chunks]
        verified = [draw.randint(1, 1 + min(block, 4)) for _ in group]
        check_step(
            pool,
            [*group, *chunks],
            [*verified, *(draw.randint(1, 17) for _ in chunks)],
            len(group),
            draw.choice(("eager", "sdpa")),
            shape(),
        )
        for story, count in zip(group, verified, strict=True):
            pool.truncate(story.cache, story.cache.tokens - draw.randint(0, count - 1))


@pytest.mark.parametrize("prompt", [6, 19, 33])
def test_the_newest_page_of_int4_is_found_after_older_ones_were_given_up(prompt: int) -> None:
    """Tokens that see a window of nine read the same whether blocks behind it are given back or kept."""
    import torch

    from advisor.backends.runtime.attention.step import AttentionStep, SequenceInput
    from advisor.backends.runtime.attention.visibility import Visibility
    from advisor.backends.runtime.cache.pool import CacheConfig, Pool
    from advisor.backends.runtime.model.attention_hook import Options

    outs = []
    for retention in (CacheRetention(window=9), None):
        torch.manual_seed(7)
        config = CacheConfig(blocks=30, block_tokens=8, sequences=2, max_tokens=96, kv_format="int4", retention=retention)
        pool = Pool((shape(),), config, torch.float32, torch.device("cpu"))
        sequence = pool.open()
        for new in (prompt, *[1] * 30):
            assert pool.allocate(sequence, sequence.tokens + new)
            query, key, value = torch.randn(1, 4, new, 16), torch.randn(1, 2, new, 16), torch.randn(1, 2, new, 16)
            step = AttentionStep(pool, [SequenceInput(sequence, [0] * new)], int(new == 1), "eager", Visibility(window=9))
            outs.append(step.attend(0, query, key, value, Options(0.4)))
            sequence.tokens += new
            pool.evict(sequence)
        assert (sequence.evicted > 0) == (retention is not None)
    for forgetting, remembering in zip(outs[:31], outs[31:], strict=True):
        torch.testing.assert_close(forgetting, remembering, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kv_format", FORMATS)
@pytest.mark.parametrize("block", [16, 96])
def test_memory_is_the_rows_their_scales_and_two_pages_a_sequence_in_int4(kv_format: str, block: int) -> None:
    pool = new_pool(kv_format, block)
    rows = 2 * pool.config.blocks * block * KV_HEADS
    page = 16 if block == 16 else CONTIGUOUS_PAGE_TOKENS
    rings = 2 * 3 * 2 * KV_HEADS * page * 16 * 4 if kv_format == "int4" else 0
    assert pool.allocated_bytes == rows * BYTES_PER_ROW[kv_format] + rings
    sequence = pool.open()
    pool.allocate(sequence, block)
    assert pool.used_bytes_peak == rows * BYTES_PER_ROW[kv_format] // pool.config.blocks + rings // 3


def test_an_unknown_format_and_an_odd_width_in_int4_are_refused() -> None:
    from advisor.backends.runtime.cache.pool import KvShape

    with pytest.raises(AdvisorError, match="keeps no cache in `int3`"):
        new_pool("int3", 4)
    with pytest.raises(AdvisorError, match="heads of 9 are odd"):
        new_pool("int4", 4, KvShape(1, 9, 9))
    assert new_pool("int8", 4, KvShape(1, 9, 9)).allocated_bytes > 0


LAYOUTS: tuple[dict[str, object], ...] = (
    {"max_sequences": 2},
    {"kv_layout": "paged", "kv_block_tokens": 4},
    {"kv_layout": "paged", "kv_block_tokens": 4, "kv_capacity_tokens": 64, "batching": "continuous", "token_budget": 9},
)
DECODINGS: tuple[dict[str, object], ...] = ({}, {"decoding": "prompt-lookup", "draft_tokens": 3})


@pytest.mark.parametrize(("kv_format", "regret"), [("bf16", 1e-5), ("int8", 0.002), ("fp8", 0.05), ("int4", 0.3)])
@pytest.mark.parametrize("layout", LAYOUTS, ids=["contiguous", "paged", "tight"])
@pytest.mark.parametrize("decoding", DECODINGS, ids=["plain", "prompt-lookup"])
def test_lossy_caches_serve_every_job_with_tokens_that_the_exact_model_finds_likely(
    kv_format: str,
    regret: float,
    layout: dict[str, object],
    decoding: dict[str, object],
    llama: Any,
    open_session: Callable[..., LoadedModel],
) -> None:
    import torch

    from advisor.backends.runtime.engine import GenerationRequest, serve

    draw = random.Random(4)
    jobs = [GenerationRequest(tuple(draw.randrange(3, 64) for _ in range(draw.randint(3, 30))), draw.randint(4, 20)) for _ in range(6)]
    outcome = serve(open_session(llama, kv_format=kv_format, **layout, **decoding), jobs, concurrency=None)
    assert [len(done.tokens) for done in outcome.finished] == [job.output_tokens for job in jobs]
    regrets = torch.cat([_regrets(llama, job, done.tokens) for job, done in zip(jobs, outcome.finished, strict=True)])
    assert regrets.mean().item() <= regret, regrets
    if "kv_capacity_tokens" in layout and not decoding:
        assert outcome.preemptions > 0, "the pool is meant to run dry"


def _regrets(model: Any, job: GenerationRequest, tokens: tuple[int, ...]) -> torch.Tensor:
    """How many nats below the exact model's first choice, after the same text, each token is."""
    import torch

    with torch.inference_mode():
        scores = model(torch.tensor([job.prompt + tokens[:-1]])).logits[0, len(job.prompt) - 1 :].log_softmax(-1)
    chosen: torch.Tensor = scores.gather(1, torch.tensor(tokens).unsqueeze(1)).squeeze(1)
    best: torch.Tensor = scores.amax(-1)
    return best - chosen


def test_more_drafts_than_a_page_are_refused_for_an_int4_cache(llama: Any, open_session: Callable[..., LoadedModel]) -> None:
    from advisor.backends.runtime.engine import GenerationRequest, serve

    session = open_session(llama, kv_format="int4", kv_layout="paged", kv_block_tokens=4, decoding="prompt-lookup", draft_tokens=5)
    with pytest.raises(AdvisorError, match="at most 4 tokens"):
        serve(session, [GenerationRequest((1, 2, 3), 2)], concurrency=None)
