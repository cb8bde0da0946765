"""A tiny decoder with experts whose first layer is dense, to try rules on."""

from typing import Any

from advisor.profiles.architectures.read import read_config
from advisor.profiles.architectures.spec import ModelSpec

TINY: dict[str, Any] = {
    "model_type": "qwen3_moe",
    "hidden_size": 128,
    "intermediate_size": 256,
    "moe_intermediate_size": 128,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "mlp_only_layers": [0],
    "num_hidden_layers": 12,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 256,
    "max_position_embeddings": 512,
    "torch_dtype": "bfloat16",
}


def quantised(quantisation: dict[str, Any], **changed: Any) -> ModelSpec:
    """The tiny model with a `quantization_config`, other keys changed."""
    return read_config({**TINY, "quantization_config": quantisation, **changed}, id="tiny")


def formats(spec: ModelSpec, layer: int = 1) -> dict[str, str]:
    """The format of each matrix of a layer by its name; of a dense MLP, routed experts alike."""
    return {matrix.name: spec.stored_format(matrix) for matrix in spec.layers[layer].matrices}


def outside(spec: ModelSpec) -> tuple[str, str]:
    """The formats of the embedding and the head."""
    assert spec.head is not None
    return spec.stored_format(spec.embedding), spec.stored_format(spec.head)
