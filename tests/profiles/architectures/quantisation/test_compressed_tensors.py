"""Groups, targets and `ignore` of compressed-tensors decide by module, class and layer as its own matching does."""

from typing import Any

import pytest

from advisor.profiles.errors import AdvisorError
from tests.profiles.architectures.quantisation.tiny import formats, outside, quantised

INT4 = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128}
FP8 = {"num_bits": 8, "type": "float", "strategy": "channel"}


def config(*groups: tuple[list[str], dict[str, Any] | None], ignore: tuple[str, ...] = ("lm_head",), **more: Any) -> dict[str, Any]:
    listed = {f"group_{index}": {"targets": targets, "weights": weights} for index, (targets, weights) in enumerate(groups)}
    return {"quant_method": "compressed-tensors", "config_groups": listed, "ignore": list(ignore), **more}


@pytest.mark.parametrize(
    ("group", "format"),
    [
        ({"weights": INT4}, "int4-g128-sym"),
        ({"weights": {**INT4, "symmetric": False}}, "int4-g128-zp"),
        ({"weights": {**INT4, "strategy": "channel", "group_size": None}}, "int4-channel-sym"),
        ({"weights": {**INT4, "num_bits": 8, "group_size": -1}}, "int8-channel-sym"),
        ({"weights": INT4, "input_activations": {"num_bits": 8, "type": "int"}}, "w4a8-g128-sym"),
        ({"weights": INT4, "format": "int-quantized"}, "int8-g128-sym"),
        ({"weights": {"num_bits": 8, "type": "int"}, "input_activations": {"num_bits": 8, "type": "int"}}, "int8-w8a8"),
        ({"weights": FP8}, "fp8"),
        ({"weights": {"num_bits": 8, "type": "float", "strategy": "group", "group_size": 32}}, "mxfp8"),
        ({"weights": {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}}, "nvfp4"),
        ({"weights": {"num_bits": 4, "type": "float", "strategy": "group", "group_size": 32}}, "mxfp4"),
    ],
)
def test_the_arguments_of_weights_name_a_format(group: dict[str, Any], format: str) -> None:
    spec = quantised({"quant_method": "compressed-tensors", "config_groups": {"group_0": {"targets": ["Linear"], **group}}})
    assert formats(spec)["q_proj"] == format


def test_every_group_may_have_its_own_layout() -> None:
    spec = quantised(config((["re:.*self_attn.*"], FP8), (["re:.*mlp.*"], INT4), format="mixed-precision"))
    assert formats(spec) == {
        **dict.fromkeys(("q_proj", "k_proj", "v_proj", "o_proj"), "fp8"),
        "gate": "bf16",
        **dict.fromkeys(("gate_proj", "up_proj", "down_proj"), "int4-g128-sym"),
    }


def test_an_exact_path_comes_before_an_expression_and_both_before_a_class() -> None:
    spec = quantised(config((["Linear"], INT4), (["re:.*o_proj"], FP8), (["model.layers.3.self_attn.o_proj"], {**INT4, "num_bits": 8})))
    assert [formats(spec, layer)["o_proj"] for layer in (2, 3)] == ["fp8", "int8-g128-sym"]
    assert formats(spec, 2)["q_proj"] == "int4-g128-sym"


def test_expressions_are_tried_in_their_own_order_whatever_the_order_of_groups() -> None:
    narrow, wide = "re:.*down_proj", "re:.*mlp.*"
    for groups in (((([wide]), INT4), ([narrow], FP8)), (([narrow], FP8), ([wide], INT4))):
        assert formats(quantised(config(*groups)))["down_proj"] == "fp8"


@pytest.mark.parametrize("pattern", [r"re:^model\.layers\.(0|1)\.", r"re:model\.layers\.[01]\..*", r"re:.*layers\.(0|1)\..*"])
def test_an_expression_with_numbers_of_layers_means_those_alone(pattern: str) -> None:
    spec = quantised(config((["Linear"], INT4), ignore=("lm_head", pattern)))
    assert [formats(spec, layer)["q_proj"] for layer in (0, 1, 2, 10, 11)] == ["bf16", "bf16", *["int4-g128-sym"] * 3]


def test_expressions_match_from_the_start_of_the_path() -> None:
    spec = quantised(config((["Linear"], INT4), ignore=("lm_head", "re:self_attn.*")))
    assert formats(spec)["q_proj"] == "int4-g128-sym"


def test_an_entry_without_expression_is_a_whole_path_and_no_part_of_one() -> None:
    spec = quantised(config((["Linear"], INT4), ignore=("lm_head", "model.layers.1.self_attn", "model.layers.1.self_attn.k_proj")))
    assert (formats(spec)["q_proj"], formats(spec)["k_proj"], formats(spec, 2)["k_proj"]) == ("int4-g128-sym", "bf16", "int4-g128-sym")


def test_the_head_is_a_linear_layer_unless_it_is_ignored() -> None:
    assert outside(quantised(config((["Linear"], FP8)))) == ("bf16", "bf16")
    assert outside(quantised(config((["Linear"], FP8), ignore=()))) == ("bf16", "fp8")
    assert outside(quantised(config((["re:.*mlp.*", "lm_head"], FP8), ignore=()))) == ("bf16", "fp8")


def test_experts_are_targets_by_path_and_by_class() -> None:
    for target in (r"re:.*experts\.\d+\..*", "FusedMoE", "Qwen3MoeExperts", "re:.*mlp.experts.*"):
        spec = quantised(config(([target], INT4)))
        assert (formats(spec)["gate_proj"], formats(spec)["q_proj"], formats(spec, 0)["gate_proj"]) == ("int4-g128-sym", "bf16", "bf16")


def test_an_expression_for_a_layer_does_not_mean_its_router() -> None:
    assert formats(quantised(config((["re:.*mlp.*"], FP8))))["gate"] == "bf16"
    assert formats(quantised(config((["re:.*mlp.gate$"], FP8))))["gate"] == "fp8"


def test_a_group_without_weights_quantises_none() -> None:
    spec = quantised(config((["re:.*self_attn.*"], None), (["re:.*mlp.*"], FP8)))
    assert (formats(spec)["q_proj"], formats(spec)["up_proj"]) == ("bf16", "fp8")


def test_experts_that_differ_are_counted_as_most_and_said() -> None:
    spec = quantised(config((["Linear"], INT4), ignore=("lm_head", r"re:.*layers\.4\.mlp\.experts\.[67]\..*")))
    assert formats(spec, 4)["up_proj"] == "int4-g128-sym"
    assert spec.warnings == ("experts of 1 layer differ in format; counted in that of most",)


def test_sparse_weights_are_a_warning() -> None:
    spec = quantised(config((["Linear"], FP8), sparsity_config={"format": "sparse-24-bitmask"}))
    assert "sparse" in spec.warnings[0]


def test_a_configuration_within_a_configuration_is_read() -> None:
    inner = config((["Linear"], FP8))
    spec = quantised({"quant_method": "compressed-tensors", "quantization_config": inner})
    assert formats(spec)["q_proj"] == "fp8"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"config_groups": {}}, "`config_groups` is missing"),
        ({"ignore": ["re:*"]}, r"no regular expression"),
        ({"config_groups": {"g": {"targets": ["Linear"], "weights": {"num_bits": 5, "type": "float"}}}}, "5-bit floats"),
        ({"config_groups": {"W3A3": ["Linear"]}}, "unknown scheme"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(AdvisorError, match=message):
        quantised({**config((["Linear"], INT4)), **changed})
