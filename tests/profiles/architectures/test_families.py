"""Families with parts that others lack: two mixers in a layer, embeddings of every layer, caches that later layers reuse."""

from typing import Any

from advisor.profiles.architectures.layers import RecurrentMixer, SelfAttention
from advisor.profiles.architectures.read import read_config
from advisor.profiles.architectures.spec import ModelSpec

FALCON_H1: dict[str, Any] = {
    "model_type": "falcon_h1",
    "attention_bias": False,
    "head_dim": 128,
    "hidden_size": 3072,
    "intermediate_size": 12288,
    "mamba_d_conv": 4,
    "mamba_d_head": 128,
    "mamba_d_ssm": 3072,
    "mamba_d_state": 256,
    "mamba_n_groups": 1,
    "mamba_n_heads": 24,
    "max_position_embeddings": 262144,
    "num_attention_heads": 12,
    "num_hidden_layers": 44,
    "num_key_value_heads": 2,
    "vocab_size": 130048,
}
"""tiiuae/Falcon-H1-7B-Instruct, whose card says 7.59 B parameters."""
GEMMA_4_E: dict[str, Any] = {
    "model_type": "gemma4_text",
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "global_head_dim": 32,
    "vocab_size": 1000,
    "vocab_size_per_layer_input": 1000,
    "hidden_size_per_layer_input": 8,
    "num_kv_shared_layers": 2,
    "sliding_window": 64,
    "layer_types": ["sliding_attention", "full_attention"] * 3,
    "max_position_embeddings": 512,
}


def read(config: dict[str, Any]) -> ModelSpec:
    return read_config(config, id="family")


def test_a_layer_of_falcon_h1_has_a_state_and_a_cache() -> None:
    spec = read(FALCON_H1)
    assert round(spec.parameters / 1e9, 2) == 7.59
    assert spec.depth == len(spec.attention_layers) == len(spec.recurrent_layers) == 44
    assert spec.kv_elements_per_token == 44 * 2 * 2 * 128
    mixer = spec.recurrent_layers[0].mixer
    assert isinstance(mixer, RecurrentMixer)
    assert mixer.state_elements == 3072 * 256


def test_rules_name_the_layers_of_falcon_h1_as_the_config_counts_them() -> None:
    rules = {"quant_method": "fp8", "modules_to_not_convert": ["model.layers.43"]}
    spec = read({**FALCON_H1, "quantization_config": rules})
    assert {matrix.stored for matrix in spec.layers[-1].matrices} == {matrix.stored for matrix in spec.layers[-2].matrices} == {"bf16"}
    assert {matrix.stored for matrix in spec.layers[-3].matrices} == {None}


def test_layers_that_reuse_a_cache_hold_none_and_read_one() -> None:
    spec = read(GEMMA_4_E)
    mixers = [layer.mixer for layer in spec.layers if isinstance(layer.mixer, SelfAttention)]
    assert [mixer.reuses_cache for mixer in mixers] == [False] * 4 + [True] * 2
    assert spec.cache_elements(512) == 2 * (64 * 2 * 16) + 2 * (512 * 2 * 32)
    assert mixers[-1].attended_tokens(512) == 512
    assert {matrix.name for matrix in spec.layers[-1].matrices}.isdisjoint({"k_proj", "v_proj"})


def test_embeddings_of_every_layer_are_held_and_not_read() -> None:
    spec, without = read(GEMMA_4_E), read({**GEMMA_4_E, "hidden_size_per_layer_input": 0})
    (table,) = spec.lookups
    assert (table.n, table.k) == (1000, 6 * 8)
    gates = 6 * (2 * 64 * 8 + 64) + 6 * 8 * 64 + 8
    assert spec.parameters - without.parameters == table.parameters + gates
    assert spec.active_parameters - without.active_parameters == gates
    assert spec.config_bytes - without.config_bytes == 2 * (table.parameters + gates)
