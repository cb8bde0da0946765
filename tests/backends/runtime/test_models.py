"""Models that call attention through the interface run, whatever their attention asks for; the others are refused with a reason."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from advisor.backends.model.loaded_model import LoadedModel
from advisor.profiles.errors import AdvisorError

if TYPE_CHECKING:
    from advisor.backends.runtime.engine import GenerationRequest

MIXTURE: dict[str, object] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
LATENT: dict[str, object] = {
    "n_routed_experts": 4, "n_group": 1, "topk_group": 1, "num_experts_per_tok": 2, "q_lora_rank": 16, "kv_lora_rank": 16,
    "qk_rope_head_dim": 8, "qk_nope_head_dim": 16, "v_head_dim": 16, "moe_intermediate_size": 32, "num_key_value_heads": 4,
    "first_k_dense_replace": 1,
}  # fmt: skip
RUNS: dict[str, dict[str, object]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {"head_dim": 16},
    "mistral": {"sliding_window": 7},
    "gemma2": {"head_dim": 16, "sliding_window": 7, "query_pre_attn_scalar": 16, "attn_logit_softcapping": 2.0},
    "gemma3_text": {"head_dim": 16, "sliding_window": 7, "layer_types": ["sliding_attention", "full_attention"]},
    "phi3": {"sliding_window": 7},
    "gpt_neox": {},
    "gpt2": {},
    "opt": {"ffn_dim": 96, "word_embed_proj_dim": 64},
    "gpt_oss": {"head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 7},
    "mixtral": {"num_local_experts": 4},
    "qwen3_moe": {"head_dim": 16, **MIXTURE},
    "cohere2": {"sliding_window": 7},
    "deepseek_v3": LATENT,
}
REFUSED = {
    "falcon": "does not call attention",
    "mpt": "does not call attention",
    "bloom": "does not call attention",
    "rwkv": "recurrent state",
    "llama4_text": "chunked_attention",
    "diffllama": "4 calls of attention in 2 layers",
}


@pytest.mark.parametrize("architecture", RUNS)
def test_architectures_of_the_interface_generate_their_own_tokens(
    architecture: str,
    build_model: Callable[..., Any],
    open_session: Callable[..., LoadedModel],
    generate: Callable[[Any, Sequence[GenerationRequest]], list[tuple[int, ...]]],
) -> None:
    from advisor.backends.runtime.engine import GenerationRequest, serve

    model = build_model(architecture, **RUNS[architecture])
    draw = random.Random(1)
    jobs = [GenerationRequest(tuple(draw.randrange(3, 64) for _ in range(draw.randint(2, 25))), draw.randint(2, 10)) for _ in range(4)]
    wanted = generate(model, jobs)
    before = model.config._attn_implementation
    for attention, settings in (
        ("eager", {}),
        ("sdpa", {"kv_layout": "paged", "kv_block_tokens": 4, "batching": "continuous", "token_budget": 9}),
        ("eager", {"kv_layout": "paged", "kv_block_tokens": 4, "decoding": "prompt-lookup", "draft_tokens": 3}),
    ):
        session = open_session(model, attention=attention, max_sequences=3, **settings)
        assert [done.tokens for done in serve(session, jobs, concurrency=None).finished] == wanted, (attention, settings)
    assert model.config._attn_implementation == before, "the model is handed back as it came"


@pytest.mark.parametrize("architecture", REFUSED)
def test_other_architectures_are_refused_with_the_reason(
    architecture: str, build_model: Callable[..., Any], open_session: Callable[..., LoadedModel]
) -> None:
    from advisor.backends.runtime.engine import GenerationRequest, serve

    model = build_model(architecture)
    before = model.config._attn_implementation
    with pytest.raises(AdvisorError, match=REFUSED[architecture]) as refusal:
        serve(open_session(model), [GenerationRequest((1, 2, 3), 2)], concurrency=None)
    assert refusal.value.code == "unsupported-model"
    assert model.config._attn_implementation == before
