"""The format that a cache takes where none is given: 16 bits unless the checkpoint or the engine says otherwise, with the reason."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from advisor.profiles.architectures.read import read_config
from advisor.profiles.architectures.spec import ModelSpec
from advisor.profiles.engines import load_engine
from advisor.profiles.model_store import find_model

LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
    "max_position_embeddings": 4096,
    "torch_dtype": "bfloat16",
}
FP8 = {"quant_method": "fp8", "weight_block_size": [128, 128]}
COMPRESSED = {
    "quant_method": "compressed-tensors",
    "format": "float-quantized",
    "config_groups": {"group_0": {"targets": ["Linear"], "weights": {"num_bits": 8, "type": "float", "strategy": "channel"}}},
    "ignore": ["lm_head"],
}
MODELOPT = {"quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}}


QUARK = {
    "quant_method": "quark",
    "export": {"kv_cache_group": ["*k_proj", "*v_proj"]},
    "global_quant_config": {"weight": {"dtype": "fp8_e4m3"}},
    "layer_quant_config": {"*k_proj": {"weight": {"dtype": "fp8_e4m3"}, "output_tensors": {"dtype": "fp8_e4m3"}}},
}


def model(quantisation: dict[str, Any] | None, modelopt: dict[str, Any] | None = None) -> ModelSpec:
    config = LLAMA if quantisation is None else {**LLAMA, "quantization_config": quantisation}
    return read_config(config, id="tiny", quantisation=modelopt)


@pytest.mark.parametrize(
    ("quantisation", "modelopt", "scheme"),
    [
        (None, None, None),
        (FP8, None, None),
        (COMPRESSED, None, None),
        ({**COMPRESSED, "kv_cache_scheme": None}, None, None),
        ({**COMPRESSED, "kv_cache_scheme": {"num_bits": 8, "type": "float", "dynamic": False}}, None, "fp8"),
        ({**COMPRESSED, "kv_cache_scheme": {"num_bits": 8, "type": "int"}}, None, "int8"),
        ({**FP8, "kv_cache_scheme": "FP8"}, None, "fp8"),
        (None, MODELOPT, "fp8"),
        (None, {"quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": None}}, None),
        (None, {"quantization": {"quant_algo": "NVFP4", "kv_cache_quant_algo": "NVFP4"}}, "fp4"),
        (QUARK, None, "fp8"),
        ({**COMPRESSED, "kv_cache_quant_config": {"*k_proj": {"output_tensors": {"dtype": "fp8_e4m3"}}}}, None, "fp8"),
    ],
)
def test_a_checkpoint_says_which_cache_it_has_scales_for(
    quantisation: dict[str, Any] | None, modelopt: dict[str, Any] | None, scheme: str | None
) -> None:
    assert model(quantisation, modelopt).cache_format == scheme


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_quantised_weights_alone_leave_the_cache_in_16_bits(engine: str) -> None:
    """vLLM and SGLang with `auto`: Qwen3-30B-A3B-FP8, whose config has no cache scheme, held 87,584 tokens on two RTX 4090: 16 bits."""
    format, reason = load_engine(engine).auto_cache(find_model("Qwen/Qwen3-30B-A3B-FP8"), "fp8", "Ada")
    assert format == "bf16"
    assert "no cache scales" in reason


def test_scales_in_the_checkpoint_are_used_where_the_engine_can_and_missed_in_words_where_it_cannot() -> None:
    calibrated = model({**COMPRESSED, "kv_cache_scheme": {"num_bits": 8, "type": "float"}})
    assert load_engine("vllm").auto_cache(calibrated, "fp8", "Hopper")[0] == "fp8"
    assert load_engine("llama.cpp").auto_cache(calibrated, "fp8", "Hopper")[0] == "bf16"
    four_bits = replace(calibrated, cache_format="fp4")
    assert load_engine("vllm").auto_cache(four_bits, "fp8", "Hopper") == ("bf16", "vllm is not known to read the checkpoint's fp4 scales")


@pytest.mark.parametrize(
    ("model_id", "engine", "arch", "format"),
    [
        ("deepseek-ai/DeepSeek-V3.2", "sglang", "Blackwell", "fp8"),
        ("deepseek-ai/DeepSeek-V3.2", "sglang", "Hopper", "bf16"),
        ("deepseek-ai/DeepSeek-V3.2", "vllm", "Blackwell", "bf16"),
        ("deepseek-ai/DeepSeek-V4-Flash", "vllm", "Hopper", "fp8"),
        ("deepseek-ai/DeepSeek-V4-Flash", "sglang", "Hopper", "fp8"),
    ],
)
def test_engines_have_defaults_of_their_own_for_latent_caches(model_id: str, engine: str, arch: str, format: str) -> None:
    assert load_engine(engine).auto_cache(find_model(model_id), find_model(model_id).weight_format, arch)[0] == format


def test_a_scheme_in_the_file_of_modelopt_is_found_beside_a_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA), encoding="utf-8")
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(MODELOPT), encoding="utf-8")
    assert find_model(str(tmp_path)).cache_format == "fp8"
