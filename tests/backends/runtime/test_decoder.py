"""Models of the usual kind are walked by ourselves, with the same numbers and nothing left behind; others run their own code."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from advisor.backends.model.loaded_model import LoadedModel

if TYPE_CHECKING:
    import torch

    from advisor.backends.runtime.model.forward import Prepared

OURS: dict[str, dict[str, object]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {"head_dim": 16},
    "mistral": {"sliding_window": 7},
    "mixtral": {"num_local_experts": 4},
    "qwen3_moe": {"head_dim": 16, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
}
SCALED = {"rope_type": "llama3", "rope_theta": 1e4, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0} | {
    "original_max_position_embeddings": 64
}


def ready(model: Any) -> Prepared:
    from advisor.backends.runtime.model.forward import prepared

    with ExitStack() as undo:
        return prepared(model, undo)


@pytest.mark.parametrize("architecture", OURS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_usual_architectures_are_walked_by_ourselves(architecture: str, dtype: str, build_model: Callable[..., Any]) -> None:
    import torch

    assert ready(build_model(architecture, **OURS[architecture]).to(getattr(torch, dtype))).fallback_reason is None


@pytest.mark.parametrize(
    ("architecture", "changes", "reason"),
    [
        ("gpt2", {}, "not a body and an output head"),
        ("gemma2", {"head_dim": 16, "query_pre_attn_scalar": 16}, "embedding is not a plain one"),
        ("cohere2", {}, "Cohere2LayerNorm is not"),
        ("phi3", {}, "a layer holds"),
        ("granite", {"residual_multiplier": 0.5}, "our logits differ"),
        ("smollm3", {"no_rope_layers": [0, 1]}, "our logits differ"),
    ],
)
def test_others_run_their_own_code_for_a_reason(
    architecture: str, changes: dict[str, object], reason: str, build_model: Callable[..., Any]
) -> None:
    assert reason in (ready(build_model(architecture, **changes)).fallback_reason or "")


def test_hooks_of_others_are_not_passed_over(build_model: Callable[..., Any], open_session: Callable[..., LoadedModel]) -> None:
    from advisor.backends.runtime.engine import GenerationRequest, serve

    model, called = build_model("llama"), []
    handle = model.model.layers[0].mlp.register_forward_hook(lambda *_: called.append(1))
    outcome = serve(open_session(model), [GenerationRequest((3, 4), 2)], concurrency=None)
    handle.remove()
    assert outcome.fallback_reason == "hooks hang on its modules"
    assert len(called) >= 2


@pytest.mark.parametrize("weights", ["fp32", "bf16", "int8", "int4"])
@pytest.mark.parametrize(
    "changes", [{}, {"tie_word_embeddings": True}, {"attention_bias": True, "mlp_bias": True}, {"rope_parameters": SCALED}]
)
def test_our_walk_gives_the_logits_of_the_models_own_code(
    weights: str, changes: dict[str, object], build_model: Callable[..., Any]
) -> None:
    import torch

    from advisor.backends.model.quantised_linear import quantise_linears
    from advisor.backends.runtime.model.forward import prepared
    from advisor.backends.runtime.model.probe import ProbeAttention, probe_rows

    model = build_model("llama", **changes)
    if weights != "fp32":
        model = model.to(torch.bfloat16)
    if weights in ("int8", "int4"):
        quantise_linears(model, weights, 32 if weights == "int4" else None)
    with ExitStack() as undo, torch.inference_mode():
        way = prepared(model, undo)
        assert way.fallback_reason is None
        positions = [step * 8 for step in range(8)]
        ours = ProbeAttention(model.device).run(way.forward, probe_rows(model, positions))
    ids = ((torch.arange(8) * 37 + 11) % 64).unsqueeze(0)
    with torch.inference_mode():
        own = model(input_ids=ids, position_ids=torch.tensor([positions]), attention_mask=torch.ones_like(ids), use_cache=False).logits[0]
    error = float((ours.float() - own.float()).norm() / own.float().norm())
    assert error < (1e-5 if weights == "fp32" else 0.02), error


def test_a_model_is_handed_back_bit_for_bit(build_model: Callable[..., Any], open_session: Callable[..., LoadedModel]) -> None:
    import torch

    from advisor.backends.runtime.engine import GenerationRequest, serve

    for dtype in (torch.float32, torch.bfloat16):
        model = build_model("qwen3", head_dim=16, attention_bias=True).to(dtype)
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        for _ in range(2):
            outcome = serve(open_session(model), [GenerationRequest((3, 4, 5), 3)], concurrency=None)
            assert outcome.fallback_reason is None
            for name, tensor in model.state_dict().items():
                assert torch.equal(tensor, before[name]), name
                assert not tensor.is_inference(), name


def test_a_cancelled_run_hands_the_weights_back(build_model: Callable[..., Any], open_session: Callable[..., LoadedModel]) -> None:
    import torch

    from advisor.backends.runtime.engine import GenerationRequest, serve

    model = build_model("llama").to(torch.bfloat16)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def cancel(_: object) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        serve(open_session(model), [GenerationRequest((3, 4), 2)], concurrency=None, on_step=cancel)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_joined_weights_share_one_memory_and_later_joins_move_nothing() -> None:
    import torch
    from torch import nn

    from advisor.backends.runtime.model.linears import product

    linears = [nn.Linear(8, width, bias=width == 6) for width in (4, 6, 2)]
    x = torch.randn(3, 8)
    with ExitStack() as undo, torch.no_grad():
        wanted = torch.cat([linear(x) for linear in linears], -1)
        assert torch.allclose(product(linears, frozenset(), undo)(x), wanted, atol=1e-6)
        assert len({linear.weight.untyped_storage().data_ptr() for linear in linears}) == 1
        addresses = [linear.weight.data_ptr() for linear in linears]
        product(linears, frozenset(), undo)
        assert [linear.weight.data_ptr() for linear in linears] == addresses


def test_tied_weights_are_left_where_they_are() -> None:
    import torch
    from torch import nn

    from advisor.backends.runtime.model.linears import product

    linear = nn.Linear(8, 4, bias=False, dtype=torch.bfloat16)
    address = linear.weight.data_ptr()
    with ExitStack() as undo:
        product([linear], frozenset({id(linear.weight)}), undo)
        assert linear.weight.data_ptr() == address
        assert linear.weight.numel() == 32


@pytest.mark.parametrize(("n", "k"), [(1, 1), (37, 53), (64, 64), (130, 96), (256, 1000)])
def test_block_order_keeps_every_weight_and_multiplies_the_same(n: int, k: int) -> None:
    import torch

    from advisor.backends.runtime.model.linears import is_packed_on
    from advisor.kernels.torch_private import blocked_product, reorder_linear_weight

    if not is_packed_on(torch.device("cpu"), torch.bfloat16):
        pytest.skip("this processor or build has no bf16 products in oneDNN")
    draw = torch.Generator().manual_seed(n * k)
    weight, bias = torch.randn(n, k, generator=draw).bfloat16(), torch.randn(n, generator=draw).bfloat16()
    packed = reorder_linear_weight(weight)
    assert torch.equal(packed.to_dense(), weight)
    for rows in (1, 5, 64):
        x = torch.randn(rows, k, generator=draw).bfloat16()
        exact = x.double() @ weight.double().T + bias.double()
        error = float((blocked_product(packed, bias)(x).double() - exact).norm() / exact.norm())
        assert error < 5e-3, (rows, error)


def test_own_code_keeps_only_wanted_rows(llama: Any) -> None:
    import torch

    from advisor.backends.runtime.model.forward import TransformersForward, patched_attention
    from advisor.backends.runtime.model.probe import ProbeAttention, probe_rows

    sequence, own = probe_rows(llama, range(8)), TransformersForward(llama)

    def wanted(step: Any, ids: torch.Tensor, positions: torch.Tensor, rows: torch.Tensor | None) -> torch.Tensor:
        return own(step, ids, positions, torch.tensor([6, 2]))

    with patched_attention(llama), torch.inference_mode():
        all_rows = ProbeAttention(llama.device).run(own, sequence)
        some = ProbeAttention(llama.device).run(wanted, sequence)
    assert torch.allclose(some, all_rows[[6, 2]], atol=1e-5)
