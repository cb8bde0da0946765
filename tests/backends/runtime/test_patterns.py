"""Tokens that see a part of their past: the model under an explicit mask, prefilled and decoded, blocks skipped or not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from advisor.backends.deployment import CacheRetention, Pattern
from advisor.backends.model.loaded_model import LoadedModel
from advisor.profiles.errors import AdvisorError

if TYPE_CHECKING:
    import torch

    from advisor.backends.runtime.engine import GenerationRequest

BLOCK = 4
PATTERNS: dict[str, dict[str, Any]] = {
    "window": {"window": 20, "block": 16},
    "longformer": {"window": 9, "first": 5, "block": 16},
    "bigbird": {"window": 9, "first": 5, "random_blocks": 1, "seed": 3, "block": 16},
    "global-places": {"window": 5, "global_tokens": (3, 40), "block": 16},
}

BIGBIRD = Pattern(window=9, global_tokens=5, random_blocks=1, block_tokens=16)


def test_the_pattern_of_a_session_is_the_one_that_kernels_take(llama: Any, open_session: Callable[..., LoadedModel]) -> None:
    from advisor.backends.runtime.prepare import prepared_session
    from advisor.kernels.attention.block_pattern import BlockPattern

    with prepared_session(open_session(llama, attention_pattern=BIGBIRD)) as ready:
        assert ready.runner.visibility.pattern == BlockPattern(window=9, first=5, random_blocks=1, block=16)


def under_mask(model: Any, tokens: Sequence[int], seen: torch.Tensor) -> torch.Tensor:
    """Logits [T, V] of transformers' own eager attention."""
    import torch

    mask = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
    with torch.inference_mode():
        logits: torch.Tensor = model(input_ids=torch.tensor([tokens]), attention_mask=mask[None, None], use_cache=False).logits[0]
    return logits


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("layout", ["contiguous", "paged"])
@pytest.mark.parametrize("sizes", [(75,), (37, 30), (1,)], ids=["whole", "chunks", "one-by-one"])
@pytest.mark.parametrize("name", PATTERNS)
def test_a_pattern_of_blocks_is_the_model_under_its_mask(
    llama: Any,
    open_session: Callable[..., LoadedModel],
    text: Callable[..., tuple[int, ...]],
    passes_of: Callable[..., list[tuple[int, int]]],
    cached_logits: Callable[..., tuple[torch.Tensor, int]],
    name: str,
    sizes: tuple[int, ...],
    layout: str,
    attention: str,
) -> None:
    import torch

    from advisor.kernels.attention.block_pattern import BlockPattern

    tokens, positions, pattern = text(80), torch.arange(80), BlockPattern(**PATTERNS[name])
    session = open_session(llama, attention=attention, kv_layout=layout, kv_block_tokens=BLOCK, max_sequences=1, max_tokens=96)
    actual, _ = cached_logits(session, tokens, passes_of(80, sizes), pattern)
    seen = pattern.allows(positions[:, None], positions[None])
    torch.testing.assert_close(actual, under_mask(llama, tokens, seen), atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("layout", ["contiguous", "paged"])
@pytest.mark.parametrize("sizes", [(75,), (37, 30), (1,)], ids=["whole", "chunks", "one-by-one"])
@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
def test_a_sliding_window_is_the_model_under_its_mask_and_holds_no_more_than_it_sees(
    build_model: Callable[..., Any],
    open_session: Callable[..., LoadedModel],
    text: Callable[..., tuple[int, ...]],
    passes_of: Callable[..., list[tuple[int, int]]],
    cached_logits: Callable[..., tuple[torch.Tensor, int]],
    architecture: str,
    sizes: tuple[int, ...],
    layout: str,
    attention: str,
) -> None:
    import torch

    longer = {"head_dim": 16, "sliding_window": 200, "query_pre_attn_scalar": 16} if architecture == "gemma2" else {}
    model, tokens, positions, passes = build_model(architecture, **longer), text(80), torch.arange(80), passes_of(80, sizes)
    session = open_session(
        model, attention=attention, attention_window=11, kv_layout=layout, kv_block_tokens=BLOCK, max_sequences=1, max_tokens=96
    )
    actual, peak = cached_logits(session, tokens, passes)
    seen = (positions[None] <= positions[:, None]) & (positions[None] > positions[:, None] - 11)
    torch.testing.assert_close(actual, under_mask(model, tokens, seen), atol=2e-4, rtol=2e-4)
    if layout == "paged":
        assert peak <= max(CacheRetention(11).blocks(end, BLOCK, new=end - start) for start, end in passes)


@pytest.mark.parametrize("kv_format", ["bf16", "int4"])
@pytest.mark.parametrize("settings", [{"attention_pattern": BIGBIRD}, {"attention_window": 9}], ids=["pattern", "window"])
def test_sequences_of_a_batch_see_each_its_own_part(
    settings: dict[str, Any], kv_format: str, llama: Any, open_session: Callable[..., LoadedModel], text: Callable[..., tuple[int, ...]]
) -> None:
    from advisor.backends.runtime.engine import GenerationRequest, serve

    jobs = [GenerationRequest(text(length, length), 20) for length in (3, 47, 18, 60)]
    cache_settings = {"kv_layout": "paged", "kv_block_tokens": BLOCK, "kv_format": kv_format, "attention": "sdpa", **settings}
    alone = [serve(open_session(llama, **cache_settings), [job], concurrency=None).finished[0].tokens for job in jobs]
    together = serve(open_session(llama, **cache_settings, batching="continuous"), jobs, concurrency=None)
    assert [done.tokens for done in together.finished] == alone
    drafted = serve(open_session(llama, **cache_settings, decoding="prompt-lookup", draft_tokens=2), jobs, concurrency=None)
    assert kv_format == "int4" or [done.tokens for done in drafted.finished] == alone


@pytest.mark.parametrize("settings", [{"attention_pattern": Pattern(window=80)}, {"attention_window": 80}], ids=["pattern", "window"])
def test_seeing_the_whole_text_changes_no_token(
    settings: dict[str, Any],
    llama: Any,
    open_session: Callable[..., LoadedModel],
    text: Callable[..., tuple[int, ...]],
    generate: Callable[[Any, Sequence[GenerationRequest]], list[tuple[int, ...]]],
) -> None:
    from advisor.backends.runtime.engine import GenerationRequest, serve

    jobs = [GenerationRequest(text(length, length), 12) for length in (5, 40, 63)]
    cache_settings = {"kv_layout": "paged", "kv_block_tokens": BLOCK, "attention": "sdpa", "batching": "continuous", "token_budget": 30}
    assert [done.tokens for done in serve(open_session(llama, **cache_settings, **settings), jobs, concurrency=None).finished] == generate(
        llama, jobs
    )


def test_a_pattern_beside_windows_of_the_model_is_refused(
    build_model: Callable[..., Any], open_session: Callable[..., LoadedModel]
) -> None:
    from advisor.backends.runtime.engine import GenerationRequest, serve

    session = open_session(build_model("mistral", sliding_window=7), attention_pattern=Pattern(window=9, global_tokens=5, block_tokens=16))
    with pytest.raises(AdvisorError, match="windows of their own"):
        serve(session, [GenerationRequest((5, 6, 7), 2)], concurrency=None)
