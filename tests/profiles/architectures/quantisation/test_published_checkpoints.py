"""Public configs of quantised checkpoints have the bytes of the tensors that their library writes."""

import json
from typing import Any

import pytest

from advisor.profiles.architectures.read import read_config
from advisor.profiles.architectures.spec import SNAPSHOTS, ModelSpec
from tests.paths import ROOT

CHECKPOINTS: dict[str, dict[str, Any]] = {
    name: entry
    for name, entry in json.loads((ROOT / "tests/profiles" / "quantised_checkpoints.json").read_text(encoding="utf-8")).items()
    if name != "about"
}
MIXED = {
    "quant_method": "compressed-tensors",
    "format": "mixed-precision",
    "config_groups": {
        "group_0": {
            "targets": [
                r"re:.*self_attn\.(q|k|v|o)_proj$",
                r"re:.*linear_attn\.(in_proj_qkv|in_proj_z|out_proj)$",
                "lm_head",
                r"re:.*layers\.(56|57|58|59|60|61|62|63)\.mlp\.(gate|up|down)_proj$",
            ],
            "weights": {"num_bits": 8, "type": "float", "strategy": "channel", "group_size": None},
            "format": "float-quantized",
        },
        "group_1": {
            "targets": [r"re:.*mlp\.(gate|up|down)_proj$"],
            "weights": {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16},
            "format": "nvfp4-pack-quantized",
        },
    },
    "ignore": ["model.visual.blocks.0.attn.qkv", "re:^mtp.*", "model.language_model.layers.0.linear_attn.in_proj_a"],
}


def snapshot(id: str) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((SNAPSHOTS / f"{id.replace('/', '--', 1)}.json").read_text(encoding="utf-8"))
    return config


def parameters(spec: ModelSpec) -> dict[str, int]:
    """Parameters of the model's matrices by kind, and of its vectors."""
    sizes = {"embedding": spec.embedding.parameters, "head": spec.head.parameters if spec.head else 0}
    for matrix, count in spec.matrices():
        sizes[matrix.kind] = sizes.get(matrix.kind, 0) + count * matrix.parameters
    return {**sizes, "vectors": spec.parameters - sum(sizes.values())}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_the_bytes_of_a_public_checkpoint_are_right(name: str) -> None:
    entry = CHECKPOINTS[name]
    config = snapshot(entry["model"])
    spec = read_config({**config, **entry["config"]}, id="quantised")
    sizes = parameters(spec)
    plain = sum(size for kind, size in sizes.items() if kind in (*entry["plain"], "vectors"))
    right = plain * 2 + (sum(sizes.values()) - plain) * entry["bits"] / 8
    assert spec.checkpoint_bytes == pytest.approx(right, rel=0.002)
    assert not spec.warnings


def test_groups_of_targets_each_have_their_format() -> None:
    """A public NVFP4 checkpoint of 27 B parameters with fp8 attention, head and last eight MLPs has 21.6 GB, and fits a 32 GB card."""
    spec = read_config({**snapshot("Qwen/Qwen3.5-27B"), "quantization_config": MIXED}, id="mixed")
    assert spec.checkpoint_bytes == pytest.approx(21.6e9, rel=0.005)
    mlps = [{spec.stored_format(matrix) for matrix in layer.matrices if matrix.kind == "mlp"} for layer in spec.layers]
    assert mlps == [{"nvfp4"}] * 56 + [{"fp8"}] * 8
    assert spec.head is not None
    assert spec.stored_format(spec.head) == "fp8"


def test_whole_layers_that_awq_leaves_out_are_counted_in_sixteen_bits() -> None:
    rules = {"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm", "zero_point": True}
    left_out = ["self_attn", "mlp.gate"]
    every, without = (
        read_config({**snapshot("Qwen/Qwen3-30B-A3B"), "quantization_config": {**rules, "modules_to_not_convert": modules}}, id="awq")
        for modules in (left_out, [*left_out, "model.layers.0.", "model.layers.1.", "model.layers.2."])
    )
    assert without.checkpoint_bytes - every.checkpoint_bytes == pytest.approx(2.7e9, rel=0.02)


def test_int4_experts_of_a_trillion_parameters_have_the_published_size() -> None:
    """Kimi K2.5's repository holds 64 files of at most 10 GB: 4.5 bits a weight of its experts, not 5."""
    spec = read_config(snapshot("moonshotai/Kimi-K2.5"), id="kimi")
    assert 580e9 < spec.checkpoint_bytes < 640e9


LLAMA_8B = "meta-llama/Meta-Llama-3.1-8B"
INT4_G128 = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 128}


def llm_compressor(layout: str, activations: dict[str, Any] | None) -> dict[str, Any]:
    group = {"targets": ["Linear"], "weights": INT4_G128, "input_activations": activations}
    return {"quant_method": "compressed-tensors", "format": layout, "config_groups": {"group_0": group}, "ignore": ["lm_head"]}


@pytest.mark.parametrize(
    ("quantisation", "published_bytes"),
    [
        (llm_compressor("pack-quantized", None), 5_700_595_200),
        (llm_compressor("int-quantized", {"num_bits": 8, "type": "int", "strategy": "token", "dynamic": True}), 9_190_252_544),
    ],
    ids=["W4A16", "W4A8"],
)
def test_a_checkpoint_of_llm_compressor_has_the_bytes_of_its_published_index(quantisation: dict[str, Any], published_bytes: int) -> None:
    """Llama 3.1 8B, `total_size` of model.safetensors.index.json as github.com/vllm-project/llm-compressor/issues/1215 quotes it."""
    spec = read_config({**snapshot(LLAMA_8B), "quantization_config": quantisation}, id="llama")
    assert spec.checkpoint_bytes == pytest.approx(published_bytes, rel=1e-5)


def test_a_checkpoint_of_auto_round_has_the_size_of_a_published_folder() -> None:
    """A Qwen3 8B in W4A16 of AutoRound 0.12.3: a folder of 5,827 MiB, of which 11 MiB are the tokenizer (log of a public run)."""
    quantisation = {"quant_method": "auto-round", "bits": 4, "group_size": 128, "sym": True, "packing_format": "auto_round:auto_gptq"}
    spec = read_config({**snapshot("Qwen/Qwen3-8B"), "quantization_config": quantisation}, id="qwen")
    assert spec.checkpoint_bytes == pytest.approx((5827 - 11) * 2**20, rel=0.001)
