"""What looks like a quantisation is read, refused or warned about, never silently taken for the model's own dtype."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.profiles.architectures.quantisation.methods import READERS
from advisor.profiles.architectures.read import read_config
from advisor.profiles.errors import AdvisorError
from advisor.profiles.model_store import find_model
from tests.profiles.architectures.quantisation.tiny import TINY, formats

GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128}


def test_a_known_quantisation_is_read_under_any_key() -> None:
    for key in ("quantization_config", "compression_config", "quantization", "my_quant_settings"):
        assert read_config({**TINY, key: GPTQ}, id="tiny").weight_format == "int4-g128-gptq", key


@pytest.mark.parametrize("key", ["quant_settings", "weight_quantization", "model_compression"])
def test_an_unknown_mapping_that_looks_like_a_quantisation_is_refused(key: str) -> None:
    with pytest.raises(AdvisorError, match=f"`{key}` looks like a quantisation"):
        read_config({**TINY, key: {"scheme": "mystery"}}, id="tiny")


def test_a_word_that_looks_like_a_quantisation_is_a_warning() -> None:
    assert read_config({**TINY, "quantize": "int4"}, id="tiny").warnings == (
        "`quantize` of config.json looks like a quantisation and was not read",
    )
    assert not read_config({**TINY, "quantization_bit": 0, "quantization_config": None}, id="tiny").warnings


def test_an_id_that_names_a_quantisation_which_the_config_lacks_is_a_warning() -> None:
    assert "`AWQ`" in read_config(TINY, id="someone/Tiny-AWQ").warnings[0]
    assert not read_config(TINY, id="someone/Tiny").warnings
    assert not read_config({**TINY, "quantization_config": GPTQ}, id="someone/Tiny-GPTQ").warnings


def test_a_quantisation_that_meets_no_matrix_is_a_warning() -> None:
    spec = read_config({**TINY, "quantization_config": {**GPTQ, "dynamic": {"-:.*": {}}}}, id="tiny")
    assert spec.weight_format == "bf16"
    assert "quantises no matrix" in spec.warnings[0]


@pytest.mark.parametrize(
    ("quantisation", "key"),
    [
        ({**GPTQ, "ignored_layers": ["model.layers.0.mlp"]}, "ignored_layers"),
        ({"quant_method": "awq", "bits": 4, "modules_to_convert": ["q_proj"]}, "modules_to_convert"),
        ({"quant_method": "fp8", "layer_overrides": {"lm_head": 8}}, "layer_overrides"),
    ],
)
def test_rules_that_a_library_does_not_have_are_a_warning(quantisation: dict[str, Any], key: str) -> None:
    assert read_config({**TINY, "quantization_config": quantisation}, id="tiny").warnings == (
        f"`{key}` of the quantisation names modules and was not read",
    )


@pytest.mark.parametrize(
    ("keys", "format"),
    [
        ({"bits": 4, "group_size": 64}, "int4-g64-mlx"),
        ({"bits": 4, "group_size": 64, "desc_act": True}, "int4-g64-gptq"),
        ({"w_bit": 4, "q_group_size": 64, "zero_point": True}, "int4-g64-zp"),
        ({"load_in_8bit": True}, "bnb-int8"),
        ({"quant_algo": "FP8"}, "fp8"),
    ],
)
def test_a_configuration_without_method_is_known_by_its_keys(keys: dict[str, Any], format: str) -> None:
    assert read_config({**TINY, "quantization_config": keys}, id="tiny").weight_format == format


@pytest.mark.parametrize(
    ("name", "text", "format"),
    [
        ("hf_quant_config.json", '{"quantization": {"quant_algo": "NVFP4"}}', "nvfp4"),
        ("quantize_config.json", '{"bits": 3, "group_size": 128, "desc_act": false}', "int3-g128-gptq"),
        ("quant_config.json", '{"w_bit": 4, "q_group_size": 128, "zero_point": true}', "int4-g128-zp"),
    ],
)
def test_files_beside_the_config_describe_a_quantisation(tmp_path: Path, name: str, text: str, format: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    (tmp_path / name).write_text(text)
    spec = find_model(str(tmp_path))
    assert (spec.weight_format, spec.weight_format_reason) == (format, name)


def test_the_language_model_of_a_larger_one_is_named_as_its_rules_name_it() -> None:
    for prefix in ("model.language_model.layers", "language_model.model.layers", "model.layers"):
        rules = {**GPTQ, "dynamic": {"-:^" + prefix.replace(".", r"\.") + r"\.3\..*": {}}}
        spec = read_config({"model_type": "qwen3_vl", "text_config": TINY, "quantization_config": rules}, id="vision")
        assert (formats(spec, 3)["q_proj"], formats(spec, 4)["q_proj"]) == ("bf16", "int4-g128-gptq"), prefix


KEYS = (
    "bits", "group_size", "dynamic", "modules_to_not_convert", "config_groups", "ignore", "targets", "weights", "num_bits", "type",
    "extra_config", "block_name_to_quantize", "quant_algo", "quantized_layers", "quant_type", "_type", "_data", "fqn_to_config",
    "quant_config", "global_quant_config", "layer_quant_config", "weight", "dtype", "head_bits", "tensor_storage", "mode",
    "load_in_4bit", "bnb_4bit_quant_type", "model.layers.1.self_attn.q_proj",
)  # fmt: skip
LEAVES = (
    st.none() | st.booleans() | st.integers(-1, 40) | st.floats() | st.sampled_from(("", "int", "re:.*", "re:(", "*", "FP8", "lm_head"))
)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4))


@given(st.sampled_from(sorted(READERS)), st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6))
def test_any_configuration_is_read_or_refused(method: str, values: dict[str, Any]) -> None:
    with suppress(AdvisorError):
        spec = read_config({**TINY, "quantization_config": {"quant_method": method, **values}}, id="tiny")
        assert spec.checkpoint_bytes > 0


def test_an_expression_that_may_take_for_ever_is_refused() -> None:
    with pytest.raises(AdvisorError, match="repeats a repetition"):
        read_config({**TINY, "quantization_config": {**GPTQ, "dynamic": {"-:(([a-z])+.)+[A-Z]([a-z])+$": {}}}}, id="tiny")


def test_names_of_other_families_are_their_own() -> None:
    mixtral = {**TINY, "model_type": "mixtral", "num_local_experts": 8}
    rules = {"quant_method": "awq", "bits": 4, "modules_to_not_convert": ["gate", "w2"]}
    spec = read_config({**mixtral, "quantization_config": rules}, id="mixtral")
    assert [formats(spec)[name] for name in ("gate_proj", "down_proj", "gate")] == ["int4-g128-zp", "bf16", "bf16"]
