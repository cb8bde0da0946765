"""How checkpoints store weights: the format, which matrices keep another, and why."""

from typing import Any

import pytest

from advisor.profiles.architectures.read import read_config
from advisor.profiles.architectures.spec import ModelSpec, shipped_models
from advisor.profiles.formats import weight_format
from advisor.profiles.model_store import find_model

MOE: dict[str, Any] = {
    "model_type": "qwen3_moe",
    "hidden_size": 64,
    "intermediate_size": 128,
    "moe_intermediate_size": 32,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "mlp_only_layers": [0],
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 100,
    "max_position_embeddings": 512,
    "torch_dtype": "bfloat16",
}


def quantised(config: dict[str, Any]) -> ModelSpec:
    return read_config({**MOE, "quantization_config": config}, id="quantised")


def formats(spec: ModelSpec, layer: int) -> dict[str, str]:
    return {matrix.name: spec.stored_format(matrix) for matrix in spec.layers[layer].matrices}


@pytest.mark.parametrize(
    ("config", "format"),
    [
        ({"quant_method": "fp8"}, "fp8"),
        ({"quant_method": "gptq", "bits": 4, "group_size": 64}, "int4-g64-gptq"),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, "int8-channel-gptq"),
        ({"quant_method": "awq", "w_bit": 4, "q_group_size": 128}, "int4-g128-zp"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "bnb-int8"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4"),
        ({"quant_method": "modelopt", "quant_algo": "W4A8_AWQ"}, "w4a8"),
        (
            {
                "quant_method": "compressed-tensors",
                "ignore": ["lm_head"],
                "config_groups": {"g": {"weights": {"num_bits": 8, "type": "float"}}},
            },
            "fp8",
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "ignore": ["lm_head"],
                "config_groups": {"g": {"weights": {"num_bits": 8, "type": "int"}, "input_activations": {"num_bits": 8}}},
            },
            "int8-w8a8",
        ),
    ],
)
def test_a_quantisation_is_named_as_the_formats_are(config: dict[str, Any], format: str) -> None:
    spec = quantised(config)
    assert spec.weight_format == format
    assert weight_format(format)
    assert {"embedding", "head", "router"} <= spec.unquantised_kinds


def test_modules_left_out_keep_their_format_in_their_layer_only() -> None:
    spec = quantised({"quant_method": "fp8", "modules_to_not_convert": ["model.layers.1.self_attn.o_proj", "lm_head"]})
    assert formats(spec, 1)["o_proj"] == "bf16"
    assert formats(spec, 1)["q_proj"] == "fp8"
    assert formats(spec, 2)["o_proj"] == "fp8"
    assert "attention" not in spec.unquantised_kinds


@pytest.mark.parametrize("pattern", ["model.layers.*.self_attn", "re:.*self_attn.*", "*self_attn*", "self_attn"])
def test_a_pattern_keeps_a_module_in_every_layer(pattern: str) -> None:
    spec = quantised({"quant_method": "fp8", "modules_to_not_convert": [pattern]})
    assert "attention" in spec.unquantised_kinds
    assert formats(spec, 2)["gate_proj"] == "fp8"


def test_a_gate_left_out_is_the_router_and_no_expert() -> None:
    spec = quantised({"quant_method": "fp8", "modules_to_not_convert": ["gate", "model.layers.1.mlp.gate"]})
    assert formats(spec, 1) == {
        "q_proj": "fp8",
        "k_proj": "fp8",
        "v_proj": "fp8",
        "o_proj": "fp8",
        "gate": "bf16",
        "gate_proj": "fp8",
        "up_proj": "fp8",
        "down_proj": "fp8",
    }


def test_mxfp4_of_gpt_oss_is_for_experts_only() -> None:
    spec = find_model("openai/gpt-oss-120b")
    assert spec.weight_format == "mxfp4"
    assert spec.unquantised_kinds == {"attention", "embedding", "head", "router"}
    assert spec.checkpoint_bytes == pytest.approx(65.2e9, rel=0.01), "the published files are 65.2 GB"


def test_kimi_k2_5_quantises_its_routed_experts_only() -> None:
    spec = find_model("moonshotai/Kimi-K2.5")
    assert {matrix.kind for matrix, _ in spec.matrices() if matrix.stored is None} == {"expert"}


def test_deepseek_v4_stores_experts_in_four_bits_and_the_rest_in_eight() -> None:
    for id, experts in (("deepseek-ai/DeepSeek-V4-Flash", "mxfp4"), ("nvidia/DeepSeek-V4-Flash-NVFP4", "nvfp4")):
        spec = find_model(id)
        formats = {(matrix.kind, spec.stored_format(matrix)) for matrix, _ in spec.matrices()}
        assert {("expert", experts), ("attention", "fp8"), ("shared-expert", "fp8"), ("router", "bf16")} == formats


def test_modelopts_own_file_is_read_before_the_id() -> None:
    modelopt = {"quantization": {"quant_algo": "NVFP4", "exclude_modules": ["lm_head", "model.layers.*.self_attn*"]}}
    spec = read_config(MOE, id="someone/Model-FP8", quantisation=modelopt)
    assert spec.weight_format == "nvfp4"
    assert "attention" in spec.unquantised_kinds
    assert spec.weight_format_reason == "hf_quant_config.json"


def test_a_format_taken_from_the_id_says_that_it_is_assumed() -> None:
    spec = find_model("nvidia/Llama-3.1-70B-Instruct-FP8")
    assert spec.weight_format == "fp8"
    assert spec.weight_format_reason.startswith("assumed from the id's ending")


def test_every_shipped_format_is_known_and_has_a_reason() -> None:
    for id in shipped_models():
        spec = find_model(id)
        assert weight_format(spec.weight_format).bits > 0, id
        assert spec.weight_format_reason, id
        assert 0.3 * spec.parameters < spec.checkpoint_bytes < 4.1 * spec.parameters, id
