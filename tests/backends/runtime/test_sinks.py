"""First tokens and a window, numbered by their places within the cache, as StreamingLLM defines it (arXiv 2309.17453)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from advisor.backends.deployment import CacheRetention
from advisor.backends.model.loaded_model import LoadedModel
from advisor.profiles.errors import AdvisorError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from advisor.backends.runtime.engine import GenerationRequest

BLOCK = 4
LLAMA3 = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
ROTARY: dict[str, tuple[str, dict[str, object]]] = {
    "llama": ("llama", {}),
    "llama3-angles": ("llama", {"rope_parameters": {**LLAMA3, "original_max_position_embeddings": 64}}),
    "yarn": ("llama", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0}}),
    "qwen3": ("qwen3", {"head_dim": 16}),
    "a-quarter-of-each-head": ("gpt_neox", {}),
    "half-of-each-head": ("phi", {}),
    "two-kinds-of-layers": (
        "gemma3_text",
        {"head_dim": 16, "sliding_window": 200, "layer_types": ["sliding_attention", "full_attention"]},
    ),
}
OTHERS: dict[str, tuple[str, dict[str, object], str]] = {
    "learned": ("gpt2", {}, "layer 0 has no rotary positions of the half-split kind"),
    "neighbouring-pairs": ("cohere2", {"sliding_window": 200}, "no rotary positions of the half-split kind"),
    "by-length": ("llama", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}}, "change with the length"),
}


def defined(model: Any, tokens: Sequence[int], passes: Sequence[tuple[int, int]], retention: CacheRetention) -> Tensor:
    """Logits [T, V] of a Llama whose keys are cached unrotated and rotated at their place in the cache, pass by pass."""
    import torch

    base = model.model
    hidden = base.embed_tokens(torch.tensor(tokens))
    for layer in base.layers:
        attention, normed = layer.self_attn, layer.input_layernorm(hidden)
        shape = (len(tokens), -1, attention.head_dim)
        query, key, value = (
            project(normed).view(shape).transpose(0, 1) for project in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        groups = query.shape[0] // key.shape[0]
        rows = []
        for start, end in passes:
            past = [position for position in range(start) if position < retention.first or position > start - retention.window]
            seen = torch.tensor([*past, *range(start, end)])
            cos, sin = base.rotary_emb(hidden[None], torch.arange(len(seen))[None])
            keys = rotated(key[:, seen], cos, sin).repeat_interleave(groups, 0)
            queries = rotated(query[:, start:end], cos[:, len(past) :], sin[:, len(past) :])
            scores = queries @ keys.transpose(1, 2) * attention.scaling
            later = torch.arange(len(seen)) > len(past) + torch.arange(end - start)[:, None]
            weights = scores.masked_fill(later, -torch.inf).softmax(-1)
            rows.append((weights @ value[:, seen].repeat_interleave(groups, 0)).transpose(0, 1).flatten(1))
        hidden = hidden + attention.o_proj(torch.cat(rows))
        hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
    logits: Tensor = model.lm_head(base.norm(hidden))
    return logits


def rotated(rows: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    import torch

    early, late = rows.chunk(2, -1)
    return rows * cos + torch.cat([-late, early], -1) * sin


def sinks(open_session: Callable[..., LoadedModel], model: Any, retention: CacheRetention, **changes: Any) -> LoadedModel:
    settings: dict[str, Any] = {
        "kv_layout": "paged",
        "kv_block_tokens": BLOCK,
        "kv_window": retention.window,
        "kv_sink_tokens": retention.first,
    }
    return open_session(model, **{**settings, **changes})


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("sizes", [(13,), (7, 9, 5), (1,)], ids=["whole", "chunks", "one-by-one"])
@pytest.mark.parametrize("retention", [CacheRetention(6, 4), CacheRetention(9, 1), CacheRetention(5, 7), CacheRetention(1, 2)], ids=str)
def test_it_is_the_model_with_keys_rotated_at_their_place_in_the_cache(
    llama: Any,
    open_session: Callable[..., LoadedModel],
    attention: str,
    sizes: tuple[int, ...],
    retention: CacheRetention,
    text: Callable[..., tuple[int, ...]],
    passes_of: Callable[..., list[tuple[int, int]]],
    cached_logits: Callable[..., tuple[torch.Tensor, int]],
) -> None:
    import torch

    tokens = text(34)
    passes = passes_of(len(tokens), sizes)
    actual, peak = cached_logits(sinks(open_session, llama, retention, attention=attention, max_sequences=1), tokens, passes)
    with torch.inference_mode():
        torch.testing.assert_close(actual, defined(llama, tokens, passes, retention), atol=2e-4, rtol=2e-4)
    assert peak <= max(retention.blocks(end, BLOCK, new=end - start) for start, end in passes)


@pytest.mark.parametrize("budget", [0, 9])
def test_a_window_as_long_as_the_text_changes_no_token(
    llama: Any,
    open_session: Callable[..., LoadedModel],
    generate: Callable[[Any, Sequence[GenerationRequest]], list[tuple[int, ...]]],
    budget: int,
    text: Callable[..., tuple[int, ...]],
) -> None:
    from advisor.backends.runtime.engine import GenerationRequest, serve

    jobs = [GenerationRequest(text(length, length), 12) for length in (5, 21, 33)]
    session = sinks(open_session, llama, CacheRetention(41, 4), batching="continuous", token_budget=budget)
    assert [done.tokens for done in serve(session, jobs, concurrency=None).finished] == generate(llama, jobs)


@pytest.mark.parametrize("case", ROTARY)
def test_rotary_frequencies_are_found_whatever_the_share_of_a_head(
    case: str, build_model: Callable[..., Any], open_session: Callable[..., LoadedModel]
) -> None:
    """Turned back by its own place, a query is the one at place 0."""
    from advisor.backends.runtime.prepare import prepared_session

    architecture, changes = ROTARY[case]
    with prepared_session(sinks(open_session, build_model(architecture, **changes), CacheRetention(9, 2))) as ready:
        assert len(ready.runner.visibility.frequencies) == 2


@pytest.mark.parametrize("case", OTHERS)
def test_other_positions_are_refused(
    case: str, build_model: Callable[..., Any], open_session: Callable[..., LoadedModel], text: Callable[..., tuple[int, ...]]
) -> None:
    from advisor.backends.runtime.engine import GenerationRequest, serve

    architecture, changes, says = OTHERS[case]
    session = sinks(open_session, build_model(architecture, **changes), CacheRetention(9, 2))
    with pytest.raises(AdvisorError, match=says):
        serve(session, [GenerationRequest(text(5), 3)], concurrency=None)


def test_turning_back_undoes_the_rotation_and_leaves_the_rest_of_the_head() -> None:
    import torch

    from advisor.backends.runtime.attention.rotary import rerotate

    torch.manual_seed(0)
    frequencies, rows = 10000.0 ** -(torch.arange(3) / 3.0), torch.randn(5, 2, 8, dtype=torch.float64)
    positions = torch.tensor([0, 3, 17, 400, 100_000])
    angles = positions.double()[:, None] * frequencies.double()
    cos, sin = angles.cos().repeat(1, 2)[:, None], angles.sin().repeat(1, 2)[:, None]
    turned = torch.cat([rotated(rows[..., :6], cos, sin), rows[..., 6:]], -1)
    torch.testing.assert_close(rerotate(turned, positions, frequencies), rows, atol=1e-9, rtol=0)


def test_a_stream_of_ten_windows_stays_within_its_blocks_and_each_sequence_keeps_its_own(
    llama: Any, open_session: Callable[..., LoadedModel], text: Callable[..., tuple[int, ...]], block_bytes: Callable[[Any], int]
) -> None:
    from advisor.backends.runtime.engine import GenerationRequest, serve

    retention, jobs = CacheRetention(10, 3), [GenerationRequest(text(length, length), 110) for length in (5, 16)]
    loaded = sinks(open_session, llama, retention, max_tokens=140, max_sequences=1)
    alone = [serve(loaded, [job], concurrency=None) for job in jobs]
    assert all(run.kv_used_bytes_peak // block_bytes(llama) <= retention.blocks(126, BLOCK) for run in alone)
    together = serve(sinks(open_session, llama, retention, max_tokens=140, batching="continuous"), jobs, concurrency=None)
    assert [done.tokens for done in together.finished] == [run.finished[0].tokens for run in alone]


def test_speculation_gives_the_tokens_of_plain_decoding(
    llama: Any, open_session: Callable[..., LoadedModel], text: Callable[..., tuple[int, ...]]
) -> None:
    from advisor.backends.runtime.engine import GenerationRequest, serve

    jobs = [GenerationRequest(text(3, seed) * 9, 40) for seed in range(3)]
    plain = serve(sinks(open_session, llama, CacheRetention(10, 3)), jobs, concurrency=None)
    drafted = serve(sinks(open_session, llama, CacheRetention(10, 3), decoding="prompt-lookup", draft_tokens=4), jobs, concurrency=None)
    assert [done.tokens for done in drafted.finished] == [done.tokens for done in plain.finished]
    assert drafted.accepted < drafted.proposed
