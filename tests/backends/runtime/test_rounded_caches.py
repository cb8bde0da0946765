"""Beside a cache that rounds, prompts attend to the same numbers however they are passed: techniques called exact change no token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from advisor.backends.model.loaded_model import LoadedModel

BLOCK = 8
WAYS: dict[str, dict[str, object]] = {
    "whole prompts": {"batching": "continuous"},
    "one at a time": {"max_sequences": 1},
    "chunked prefill": {"batching": "continuous", "token_budget": 11},
    "prefix reuse": {"batching": "continuous", "kv_prefix_reuse": True, "max_sequences": 1},
    "prefix reuse in chunks": {"batching": "continuous", "kv_prefix_reuse": True, "token_budget": 7},
    "drafts": {"decoding": "prompt-lookup", "draft_tokens": 5},
    "sdpa": {"attention": "sdpa", "batching": "continuous", "token_budget": 30},
}


@pytest.mark.parametrize("architecture", ["llama", "mistral"])
@pytest.mark.parametrize("kv_format", ["int8", "fp8", "int4"])
def test_techniques_called_exact_change_no_token_beside_a_rounded_cache(
    kv_format: str,
    architecture: str,
    build_model: Callable[..., Any],
    open_session: Callable[..., LoadedModel],
    text: Callable[..., tuple[int, ...]],
) -> None:
    from advisor.backends.runtime.engine import GenerationRequest, serve

    model = build_model(architecture, **({"sliding_window": 21} if architecture == "mistral" else {}))
    shared, repeated = text(3 * BLOCK + 3), text(6, seed=9)
    jobs = [GenerationRequest(shared + text(length, seed=length) + 2 * repeated, 20) for length in (2, 9, 17)]
    answers = {}
    for name, settings in WAYS.items():
        session = open_session(model, **{"kv_layout": "paged", "kv_block_tokens": BLOCK, "kv_format": kv_format, **settings})
        served = serve(session, jobs, concurrency=None)
        answers[name] = [done.tokens for done in served.finished]
    assert all(answer == answers["whole prompts"] for answer in answers.values()), answers
