"""Configs that are wrong: one clear error that names the field. Configs that are fuzzed: never another exception."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.profiles.architectures.read import READERS, read_config
from advisor.profiles.architectures.spec import SNAPSHOTS, ModelSpec
from advisor.profiles.errors import AdvisorError, ExitCode

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
    "max_position_embeddings": 512,
    "torch_dtype": "float16",
}
SMALL = sorted(path.name for path in SNAPSHOTS.glob("*.json") if path.stat().st_size < 30000)

ODD: list[Any] = [None, True, "", "x", -1, 0, 3, 2.5, [], [None], ["x"] * 200, [1] * 200, [[]] * 200, {}, {"a": 1}, {"a": {}}]


def test_a_small_llama_is_counted_by_hand() -> None:
    spec = read_config(LLAMA, id="small")
    layer = 64 * 64 * 2 + 32 * 64 * 2 + 3 * 64 * 128 + 2 * 64
    assert spec.parameters == 2 * 100 * 64 + 2 * layer + 64
    assert spec.weight_format == "fp16"
    assert spec.head is not None
    assert spec.layers[0] is spec.layers[1]


def test_a_tied_head_is_counted_once() -> None:
    tied, apart = read_config({**LLAMA, "tie_word_embeddings": True}, id="tied"), read_config(LLAMA, id="apart")
    assert tied.head is None
    assert apart.parameters - tied.parameters == 100 * 64


def test_the_digest_depends_on_the_content_and_not_on_the_order() -> None:
    turned = dict(reversed(list(LLAMA.items())))
    assert read_config(turned, id="a").config_digest == read_config(LLAMA, id="b").config_digest
    assert read_config({**LLAMA, "vocab_size": 101}, id="a").config_digest != read_config(LLAMA, id="a").config_digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "foo"}, "config.json: unknown `model_type` 'foo'"),
        ({"model_type": None}, "config.json: `model_type` is missing"),
        ({"model_type": 7}, "config.json: `model_type` is 7; a text is needed"),
        ({"hidden_size": None}, "config.json: `hidden_size` is missing"),
        ({"vocab_size": "many"}, "config.json: `vocab_size` is 'many'; a positive whole number is needed"),
        ({"num_hidden_layers": -1}, "config.json: `num_hidden_layers` is -1; a positive whole number is needed"),
        ({"num_key_value_heads": 3}, "config.json: `num_key_value_heads` is 3; a divisor of `num_attention_heads`, 4, is needed"),
        ({"num_hidden_layers": True}, "config.json: `num_hidden_layers` is True; a positive whole number is needed"),
        ({"tie_word_embeddings": "no"}, "config.json: `tie_word_embeddings` is 'no'; true or false is needed"),
        ({"torch_dtype": "float3"}, "config.json: `torch_dtype` is 'float3'"),
        ({"text_config": []}, "config.json: `text_config` is []; a mapping is needed"),
        ({"text_config": {"model_type": "llama"}}, "config.json: text_config: `hidden_size` is missing"),
        ({"quantization_config": {"quant_method": "magic"}}, "config.json: quantization_config: unknown `quant_method` 'magic'"),
        ({"model_type": "gpt_oss", "layer_types": ["full_attention"]}, "config.json: `layer_types` has 1 entries for 2 layers"),
        ({"model_type": "gpt_oss", "layer_types": ["odd", "odd"]}, "config.json: `layer_types` holds 'odd'"),
        ({"model_type": "nemotron_h", "hybrid_override_pattern": "MX"}, "config.json: `hybrid_override_pattern` holds 'X'"),
        ({"num_hidden_layers": 10**9}, "config.json: `num_hidden_layers` is 1000000000; at most 10000 are supported"),
    ],
)
def test_a_wrong_config_is_refused_by_the_name_of_its_field(change: dict[str, Any], message: str) -> None:
    with pytest.raises(AdvisorError) as caught:
        read_config({**LLAMA, **change}, id="wrong")
    assert caught.value.message == message
    assert caught.value.code == "model-config"
    assert caught.value.exit_code == ExitCode.USAGE


def test_an_unknown_type_comes_with_the_known_ones() -> None:
    with pytest.raises(AdvisorError) as caught:
        read_config({**LLAMA, "model_type": "foo"}, id="wrong")
    assert all(kind in caught.value.help[0] for kind in READERS)


@given(st.data())
def test_a_damaged_config_gives_a_spec_or_one_clear_error(data: st.DataObject) -> None:
    config = json.loads((SNAPSHOTS / data.draw(st.sampled_from(SMALL))).read_text(encoding="utf-8"))
    parts = [config, *(config[name] for name in ("text_config", "quantization_config") if name in config)]
    damaged = data.draw(st.sampled_from(parts))
    odd = st.sampled_from(ODD)
    for name in data.draw(st.lists(st.sampled_from(sorted(damaged)), min_size=1, max_size=3, unique=True)):
        damaged[name] = data.draw(odd)
    read = read_or_refuse(config)
    if isinstance(read, ModelSpec):
        assert read.parameters > 0
        assert read.cache_elements(1000) >= 0
    else:
        assert read.code == "model-config"
        assert read.message.startswith("config.json: ")


def read_or_refuse(config: dict[str, Any]) -> ModelSpec | AdvisorError:
    try:
        return read_config(config, id="damaged")
    except AdvisorError as error:
        return error
