"""The rules of each library decide by module as the library's own code does."""

from typing import Any

import pytest

from advisor.profiles.errors import AdvisorError
from tests.profiles.architectures.quantisation.tiny import formats, outside, quantised

GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False, "sym": True}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm"}
AUTO_ROUND = {"quant_method": "auto-round", "bits": 4, "group_size": 128, "sym": True, "packing_format": "auto_round:auto_gptq"}
BNB = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
MLX = {"group_size": 64, "bits": 4}


def test_dynamic_leaves_out_and_overrides_by_expression_in_order() -> None:
    rules = {r"-:.*layers\.0\..*": {}, r"+:.*o_proj": {"bits": 8, "group_size": 32}, r".*layers\.1[01]\..*k_proj": {"bits": 3}}
    spec = quantised({**GPTQ, "dynamic": rules})
    assert set(formats(spec, 0).values()) == {"bf16"}
    assert [formats(spec, layer)["o_proj"] for layer in (1, 11)] == ["int8-g32-gptq"] * 2
    assert [formats(spec, layer)["k_proj"] for layer in (1, 10, 11)] == ["int4-g128-gptq", "int3-g128-gptq", "int3-g128-gptq"]


def test_expressions_of_dynamic_are_matched_from_the_start() -> None:
    assert formats(quantised({**GPTQ, "dynamic": {"-:self_attn": {}}}))["q_proj"] == "int4-g128-gptq"
    assert formats(quantised({**GPTQ, "dynamic": {r"-:^model\.layers\.(?!1\.)": {}}}))["q_proj"] == "int4-g128-gptq"
    assert formats(quantised({**GPTQ, "dynamic": {r"-:^model\.layers\.(?!1\.)": {}}}), 2)["q_proj"] == "bf16"


def test_gptq_quantises_the_head_only_where_it_says_so() -> None:
    assert outside(quantised(GPTQ)) == ("bf16", "bf16")
    assert outside(quantised({**GPTQ, "lm_head": True})) == ("bf16", "int4-g128-gptq")
    assert outside(quantised({**GPTQ, "lm_head": True, "dynamic": {"lm_head": {"bits": 8}}})) == ("bf16", "int8-g128-gptq")


def test_gptq_quantises_only_the_modules_that_it_lists() -> None:
    listed = [["self_attn.q_proj", "self_attn.k_proj"], ["mlp.experts.{expert_index}.down_proj"]]
    spec = quantised({**GPTQ, "modules_in_block_to_quantize": listed})
    assert {name for name, format in formats(spec).items() if format != "bf16"} == {"q_proj", "k_proj", "down_proj"}


@pytest.mark.parametrize(
    ("entry", "layers"), [("model.layers.1.", {1}), ("model.layers.1", {1}), ("model.layers.1*", {1, 10, 11}), ("layers.11.mlp", {11})]
)
def test_awq_leaves_out_whatever_holds_an_entry(entry: str, layers: set[int]) -> None:
    spec = quantised({**AWQ, "modules_to_not_convert": [entry]})
    assert {layer for layer in range(12) if formats(spec, layer)["up_proj"] == "bf16"} == layers


@pytest.mark.parametrize("entry", ["gate", "mlp.gate"])
def test_the_name_of_a_router_leaves_out_the_router_alone(entry: str) -> None:
    spec = quantised({**AWQ, "modules_to_not_convert": [entry]})
    assert {formats(spec, layer)["gate_proj"] for layer in (0, 1)} == {"int4-g128-zp"}


def test_auto_round_overrides_by_path_and_by_expression() -> None:
    extra = {
        "model.layers.1.self_attn.q_proj": {"bits": 16, "data_type": "float"},
        "model.layers.1.self_attn.k_proj": {"bits": 8, "group_size": 64},
        r".*layers\.2\..*": {"bits": 2},
        "lm_head": {"bits": 4},
    }
    spec = quantised({**AUTO_ROUND, "extra_config": extra})
    assert [formats(spec)[name] for name in ("q_proj", "k_proj", "v_proj")] == ["bf16", "int8-g64-zp", "int4-g128-zp"]
    assert formats(spec, 2)["v_proj"] == "int2-g128-zp"
    assert outside(spec) == ("bf16", "int4-g128-zp")


def test_auto_round_quantises_only_the_blocks_that_it_names() -> None:
    spec = quantised({**AUTO_ROUND, "block_name_to_quantize": "model.layers.1,model.layers.3"})
    # Beginnings of paths: that of layer 1 begins those of layers 10 and 11 too.
    assert {layer for layer in range(12) if formats(spec, layer)["q_proj"] != "bf16"} == {1, 3, 10, 11}


@pytest.mark.parametrize(
    ("changed", "format"),
    [
        ({"data_type": "mx_fp"}, "mxfp4"),
        ({"data_type": "nv_fp"}, "nvfp4"),
        ({"data_type": "fp", "bits": 8}, "fp8"),
        ({"bits": 3}, "int3-g128-zp"),
    ],
)
def test_auto_round_has_types_besides_integers(changed: dict[str, Any], format: str) -> None:
    assert formats(quantised({**AUTO_ROUND, **changed}))["q_proj"] == format


def test_modelopt_leaves_out_by_wildcard() -> None:
    excluded = ["lm_head", "model.layers.0*", "*o_proj", "model.layers.*.mlp.gate", "model.layers.3.self_attn"]
    spec = quantised({"quant_method": "modelopt", "quant_algo": "NVFP4", "exclude_modules": excluded})
    assert set(formats(spec, 0).values()) == {"bf16"}
    assert formats(spec, 1) == {**dict.fromkeys(formats(spec, 1), "nvfp4"), "o_proj": "bf16", "gate": "bf16"}
    assert (formats(spec, 3)["q_proj"], formats(spec, 3)["up_proj"]) == ("bf16", "nvfp4")


def test_modelopt_in_mixed_precision_quantises_what_it_lists() -> None:
    layers = {
        "model.layers.1.self_attn.q_proj": {"quant_algo": "FP8"},
        "model.layers.1.mlp.experts": {"quant_algo": "NVFP4", "group_size": 16},
        "model.layers.2.self_attn.q_proj": {"quant_algo": "W4A16_AWQ", "group_size": 64},
        "lm_head": {"quant_algo": "FP8"},
    }
    spec = quantised({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": layers})
    assert [formats(spec)[name] for name in ("q_proj", "k_proj", "up_proj")] == ["fp8", "bf16", "nvfp4"]
    assert formats(spec, 2)["q_proj"] == "int4-g64"
    assert outside(spec) == ("bf16", "fp8")


@pytest.mark.parametrize(
    "entry", ["model.layers.1.mlp", "model.layers.1", r"model\.layers\.1\.mlp", "layers.1.mlp", r"model.layers.(1|2).mlp"]
)
def test_bitsandbytes_skips_modules_and_what_they_hold(entry: str) -> None:
    spec = quantised({**BNB, "llm_int8_skip_modules": ["lm_head", entry]})
    assert formats(spec, 1)["up_proj"] == "bf16"
    assert formats(spec, 10)["up_proj"] == "bnb-nf4-dq"


def test_a_list_of_skipped_modules_replaces_the_default_that_skips_the_head() -> None:
    assert outside(quantised(BNB)) == ("bf16", "bf16")
    assert outside(quantised({**BNB, "llm_int8_skip_modules": ["model.layers.0"]})) == ("bf16", "bnb-nf4-dq")
    assert outside(quantised({**BNB, "llm_int8_skip_modules": ["model.layers.0", "lm_head"]})) == ("bf16", "bf16")


@pytest.mark.parametrize(
    ("kind", "format"),
    [
        ("int4_weight_only", "int4-g32"),
        ("int8_weight_only", "int8"),
        ("float8_dynamic_activation_float8_weight", "fp8"),
        ("int8_dynamic_activation_int8_weight", "int8-w8a8"),
    ],
)
def test_torchao_is_read_as_a_word_too(kind: str, format: str) -> None:
    spec = quantised({"quant_method": "torchao", "quant_type": kind, "quant_type_kwargs": {"group_size": 32}})
    assert formats(spec)["q_proj"] == format


def test_modelopt_in_mixed_precision_may_have_groups_of_targets() -> None:
    groups = {
        "group_0": {"weights": {"num_bits": 8, "type": "float"}, "targets": ["model.layers.1.self_attn.q_proj"]},
        "group_1": {"weights": {"num_bits": 4, "type": "float", "group_size": 16}, "targets": ["model.layers.1.mlp.experts"]},
    }
    spec = quantised({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "config_groups": groups})
    assert [formats(spec)[name] for name in ("q_proj", "k_proj", "up_proj")] == ["fp8", "bf16", "nvfp4"]


def test_torchao_by_path_has_a_default_and_exceptions() -> None:
    entries = {
        "_default": {"_type": "Int4WeightOnlyConfig", "_data": {"group_size": 64}},
        "model.layers.1.self_attn.q_proj": {"_type": "Int8WeightOnlyConfig", "_data": {}},
        r"re:model\.layers\.\d+\.self_attn\.k_proj": None,
        "lm_head": {"_type": "Float8WeightOnlyConfig", "_data": {}},
    }
    quant_type = {"default": {"_type": "FqnToConfig", "_data": {"fqn_to_config": entries}}}
    spec = quantised({"quant_method": "torchao", "quant_type": quant_type})
    assert [formats(spec)[name] for name in ("q_proj", "k_proj", "v_proj")] == ["int8", "bf16", "int4-g64"]
    assert outside(spec) == ("bf16", "fp8")


def test_torchao_embeddings_are_quantised_where_it_includes_them() -> None:
    config = {"quant_method": "torchao", "quant_type": {"default": {"_type": "Int8WeightOnlyConfig"}}}
    assert outside(quantised(config)) == ("bf16", "bf16")
    assert outside(quantised({**config, "include_input_output_embeddings": True})) == ("int8", "int8")


def test_hqq_has_parameters_for_all_or_for_each_linear() -> None:
    every = {"weight_quant_params": {"nbits": 3, "group_size": 64}, "scale_quant_params": {"nbits": 8, "group_size": 128}}
    assert formats(quantised({"quant_method": "hqq", "quant_config": every, "skip_modules": ["lm_head"]}))["q_proj"] == "int3-g64-hqq"
    by_linear = {
        "self_attn.q_proj": {"weight_quant_params": {"nbits": 8, "group_size": 64}},
        "self_attn.k_proj": {"weight_quant_params": {"nbits": 2}},
    }
    spec = quantised({"quant_method": "hqq", "quant_config": by_linear})
    assert [formats(spec)[name] for name in ("q_proj", "k_proj", "v_proj")] == ["int8-g64-hqq", "int2-g64-hqq", "bf16"]


def test_quark_goes_by_path_then_by_class_then_by_default() -> None:
    fp8, fp4 = (
        {"weight": {"dtype": "fp8_e4m3", "qscheme": "per_tensor"}},
        {"weight": {"dtype": "fp4", "qscheme": "per_group", "group_size": 32}},
    )
    int4 = {"weight": {"dtype": "uint4", "qscheme": "per_group", "group_size": 128, "symmetric": False}}
    spec = quantised(
        {
            "quant_method": "quark",
            "global_quant_config": int4,
            "layer_type_quant_config": {"<class 'torch.nn.modules.linear.Linear'>": fp4},
            "layer_quant_config": {"*self_attn*": fp8},
            "exclude": ["lm_head", "*mlp.gate", "*layers.2.*"],
        }
    )
    assert (formats(spec)["q_proj"], formats(spec)["up_proj"], formats(spec, 2)["up_proj"]) == ("fp8", "mxfp4", "bf16")
    by_default = quantised({"quant_method": "quark", "global_quant_config": int4})
    assert formats(by_default)["up_proj"] == "int4-g128-zp"


def test_quark_quantises_in_stages_to_the_fewest_bits() -> None:
    stages = [{"dtype": "fp8_e4m3", "qscheme": "per_tensor"}, {"dtype": "int4", "qscheme": "per_channel"}]
    assert formats(quantised({"quant_method": "quark", "global_quant_config": {"weight": stages}}))["q_proj"] == "int4-channel-sym"


def test_exl3_has_average_bits_and_bits_of_the_head() -> None:
    spec = quantised({"quant_method": "exl3", "bits": 3.5, "head_bits": 6})
    assert (formats(spec)["q_proj"], formats(spec)["gate"]) == ("exl3-3.5bpw", "bf16")
    assert outside(spec) == ("bf16", "exl3-6.0bpw")


def test_exl3_quantises_the_modules_that_it_includes() -> None:
    spec = quantised({"quant_method": "exl3", "bits": 4, "module_include": [r"^model\.layers\.\d+\.mlp\.experts\..*"]})
    assert (formats(spec)["up_proj"], formats(spec)["q_proj"], outside(spec)) == ("exl3-4.0bpw", "bf16", ("bf16", "bf16"))


def test_mlx_quantises_embeddings_and_routers_too_with_exceptions_by_path() -> None:
    exceptions = {"model.layers.1.mlp.switch_mlp.down_proj": {"bits": 6}, "model.layers.1.mlp.gate": {"bits": 8}, "lm_head": False}
    spec = quantised({**MLX, **exceptions})
    assert [formats(spec)[name] for name in ("q_proj", "up_proj", "down_proj", "gate")] == [
        "int4-g64-mlx",
        "int4-g64-mlx",
        "int6-g64-mlx",
        "int8-g64-mlx",
    ]
    assert outside(spec) == ("int4-g64-mlx", "bf16")
    assert formats(quantised({"group_size": 32, "bits": 4, "mode": "mxfp4"}))["q_proj"] == "mxfp4"


def test_an_exception_of_mlx_has_the_defaults_of_mlx_and_not_the_models() -> None:
    spec = quantised({"group_size": 32, "bits": 4, "mode": "mxfp4", "model.layers.1.self_attn.q_proj": {"bits": 8, "group_size": 64}})
    assert (formats(spec)["q_proj"], formats(spec)["k_proj"]) == ("int8-g64-mlx", "mxfp4")


def test_mlx_leaves_rows_that_no_group_divides() -> None:
    assert formats(quantised(MLX, moe_intermediate_size=96))["down_proj"] == "bf16"


def test_fp8_leaves_out_experts_by_their_module() -> None:
    spec = quantised(
        {"quant_method": "fp8", "weight_block_size": [128, 128], "ignored_layers": ["model.layers.1.mlp.experts", "gate_up_proj"]}
    )
    assert (formats(spec)["up_proj"], formats(spec)["q_proj"], formats(spec, 0)["up_proj"]) == ("bf16", "fp8", "bf16")


@pytest.mark.parametrize("method", ["aqlm", "vptq", "higgs", "mystery"])
def test_a_method_that_is_not_read_is_refused(method: str) -> None:
    with pytest.raises(AdvisorError, match="unknown `quant_method`"):
        quantised({"quant_method": method, "bits": 2})


def test_bitsandbytes_has_four_bits_or_eight_and_not_both() -> None:
    with pytest.raises(AdvisorError, match="both `load_in_4bit` and `load_in_8bit` are true"):
        quantised({**BNB, "load_in_8bit": True})
    with pytest.raises(AdvisorError, match="neither `load_in_4bit` nor `load_in_8bit` is true"):
        quantised({**BNB, "load_in_4bit": False})
