"""Experts in stacked parameters are quantised in every family: as many bytes as predicted, outputs of the rounded weights."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest

from advisor.backends.deployment import Deployment, baseline
from advisor.backends.techniques import by_name
from advisor.estimate.memory.ledger import weight_bytes as predicted_bytes
from advisor.estimate.memory.loading import padding_bytes
from advisor.profiles.architectures.read import read_config
from advisor.profiles.errors import AdvisorError
from advisor.profiles.request import Request, Workload

if TYPE_CHECKING:
    from torch import Tensor, nn

SIZES: dict[str, object] = {
    "vocab_size": 96, "hidden_size": 128, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64, "num_experts_per_tok": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "head_dim": 32,
}  # fmt: skip
LATENT: dict[str, object] = {
    "n_routed_experts": 4, "n_group": 1, "topk_group": 1, "q_lora_rank": 64, "kv_lora_rank": 64, "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 64, "v_head_dim": 64, "moe_intermediate_size": 64,
    "num_key_value_heads": 4, "first_k_dense_replace": 1, "head_dim": 64,
}  # fmt: skip
FAMILIES: dict[str, dict[str, object]] = {
    "mixtral": {"num_local_experts": 4},
    "qwen3_moe": {"num_experts": 4, "moe_intermediate_size": 64},
    "gpt_oss": {"num_local_experts": 4},
    "deepseek_v3": LATENT,
    "llama4_text": {"num_local_experts": 4, "intermediate_size_mlp": 128},
    "qwen2_moe": {"num_experts": 4, "moe_intermediate_size": 64, "shared_expert_intermediate_size": 64},
    "deepseek_v2": {**LATENT, "topk_method": "greedy"},
    "glm4_moe": {"n_routed_experts": 4, "n_group": 1, "topk_group": 1, "moe_intermediate_size": 64, "first_k_dense_replace": 1},
    "minimax_m2": {"num_local_experts": 4},
}
UNREAD: dict[str, dict[str, object]] = {
    "olmoe": {"num_experts": 4},
    "granitemoe": {"num_local_experts": 4},
    "jetmoe": {"num_local_experts": 4, "kv_channels": 32},
    "phimoe": {"num_local_experts": 4},
}
"""Families that no reader of `profiles/architectures` reads."""


def build(family: str, **changes: object) -> Any:
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    config = transformers.CONFIG_MAPPING[family](**{**SIZES, **changes})
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation="eager").eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.1)
    return model.requires_grad_(False)


def logits(model: Any) -> Tensor:
    import torch

    ids = torch.randint(3, 96, (2, 11), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        out: Tensor = model(ids, use_cache=False).logits.float()
    return out


def with_rounded_weights(model: Any, quantised: nn.Module) -> Any:
    """`model` with the weights of `quantised`, in its own type and layout."""
    from advisor.backends.model.quantised_experts import ExpertStack
    from advisor.backends.model.quantised_linear import QuantisedLinear

    for name, module in quantised.named_modules():
        if isinstance(module, ExpertStack):
            parameter = model.get_parameter(name)
            for expert, linear in enumerate(module.linears):
                assert isinstance(linear, QuantisedLinear)
                weight = linear.weight
                parameter[expert] = weight.t() if module.weights.is_transposed else weight
        elif isinstance(module, QuantisedLinear) and ".linears." not in name:
            model.get_submodule(name).weight.copy_(module.weight)
    return model


def check_outputs(model: Any, form: str, group: int | None, step: float) -> None:
    import torch

    from advisor.backends.model.quantised_experts import ExpertStack
    from advisor.backends.model.quantised_linear import quantise_linears

    quantised = copy.deepcopy(model)
    quantise_linears(quantised, form, group)
    stacks = {name: module for name, module in quantised.named_modules() if isinstance(module, ExpertStack)}
    assert len(stacks) >= 2
    assert not any(parameter.ndim == 3 for parameter in quantised.parameters())
    before = {name: model.get_parameter(name).clone() for name in stacks}
    rounded = with_rounded_weights(model, quantised)
    for name, exact in before.items():
        error = float((rounded.get_parameter(name) - exact).norm() / exact.norm())
        assert 0 < error < step, f"{name}: {error:.4f}"
    ours, theirs = logits(quantised), logits(rounded)
    assert torch.isfinite(ours).all()
    # the median over tokens: a rounding that changes the choice of experts changes single tokens
    assert float(((ours - theirs).norm(dim=-1) / theirs.norm(dim=-1)).median()) < 0.03


@pytest.mark.parametrize("family", [*FAMILIES, *UNREAD])
def test_outputs_are_those_of_the_rounded_weights(family: str) -> None:
    sizes = {**FAMILIES, **UNREAD}[family]
    # normal weights in ±3.5 deviations: a step of 7/254 of a deviation, over √12
    check_outputs(build(family, **sizes), "int8", None, 0.012)


@pytest.mark.parametrize("family", ["mixtral", "gpt_oss"])
def test_outputs_in_int4_are_those_of_the_rounded_weights(family: str) -> None:
    check_outputs(build(family, **FAMILIES[family]), "int4", 32, 0.12)


def held_bytes(deployment: Deployment) -> float:
    return predicted_bytes(deployment) + padding_bytes(deployment)[1]


NARROW: dict[str, object] = {
    "num_local_experts": 4,
    "hidden_size": 96,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "intermediate_size": 160,
}
"""Sizes that fill no tile of int4: 32 output features, and rows of 96 and 160 in groups of 64."""


@pytest.mark.parametrize("name", ["weights-int8", "weights-int4"])
@pytest.mark.parametrize(("family", "sizes"), [*FAMILIES.items(), ("mixtral", NARROW)])
def test_bytes_in_memory_are_the_predicted_ones(family: str, sizes: dict[str, object], name: str) -> None:
    from advisor.backends.model.quantised_linear import quantise_linears, weight_bytes

    model = build(family, **sizes)
    spec = read_config(model.config.to_dict() | {"torch_dtype": "bfloat16"}, id=family)
    start, request = baseline(spec, max_sequences=1), Request(workload=Workload(prompt_tokens=8, output_tokens=4, concurrency=1))
    assert sum(weight_bytes(model).values()) == pytest.approx(predicted_bytes(start), rel=0.01)
    technique = by_name(name, {"group_size": 64} if name == "weights-int4" else {})
    quantise_linears(model, technique.name.removeprefix("weights-"), 64 if name == "weights-int4" else None)
    assert sum(weight_bytes(model).values()) == pytest.approx(held_bytes(technique.sketch(start, request)), rel=0.01)


def test_experts_that_are_not_stacked_are_refused_by_name() -> None:
    from advisor.backends.model.quantised_linear import quantise_linears

    model = build(
        "dbrx",
        d_model=64,
        n_heads=4,
        n_layers=1,
        vocab_size=96,
        head_dim=None,
        attn_config={"kv_n_heads": 2, "clip_qkv": 8, "rope_theta": 10000.0},
        ffn_config={"ffn_hidden_size": 32, "moe_num_experts": 4, "moe_top_k": 2, "hidden_size": 64},
    )
    with pytest.raises(AdvisorError, match=r"DbrxForCausalLM multiplies by .*experts\.mlp\.w1 in a way of its own"):
        quantise_linears(model, "int8", None)
    assert all(parameter.is_floating_point() for parameter in model.parameters()), "nothing was changed before the refusal"


def test_operations_other_than_products_name_themselves() -> None:
    import torch
    from torch import nn

    from advisor.backends.model.quantised_experts import ExpertStack
    from advisor.backends.model.quantised_linear import Int8Linear

    stack: Any = ExpertStack([Int8Linear(nn.Linear(32, 48, bias=False)) for _ in range(2)], is_transposed=False)
    assert stack.shape == (2, 48, 32)
    assert stack.transpose(1, 2).shape == (2, 32, 48)
    x = torch.randn(2, 3, 32)
    assert torch.equal(torch.bmm(x, stack.transpose(1, 2)), torch.stack([nn.functional.linear(rows, stack[i]) for i, rows in enumerate(x)]))
    with pytest.raises(TypeError, match="linear and matmul only"):
        torch.add(x[0], stack[0])
    with pytest.raises(TypeError, match="laid out the other way round"):
        torch.matmul(x[0], stack[0])


def test_rows_of_an_expert_are_rounded_so_that_few_shapes_are_compiled() -> None:
    import torch
    from torch import nn

    from advisor.backends.model.quantised_experts import ExpertStack
    from advisor.backends.model.quantised_linear import Int8Linear

    seen: set[int] = set()

    class Counted(Int8Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.add(len(x))
            return super().forward(x)

    linear = Counted(nn.Linear(32, 16, bias=False, dtype=torch.bfloat16))
    weight: Any = ExpertStack([linear], is_transposed=False)[0]
    x = torch.randn(200, 32).to(torch.bfloat16)
    whole = nn.functional.linear(x, weight)
    for rows in range(1, 200):
        torch.testing.assert_close(nn.functional.linear(x[:rows], weight), whole[:rows], rtol=0.02, atol=0.05)
    assert {count for count in seen if count > Int8Linear.packed_rows} == {16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224}
