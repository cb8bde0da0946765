"""Towers beside language models: sizes are those of transformers, formats those of the config, and engines say whether they count them."""

import csv
import json
from typing import Any

import pytest

from advisor.backends.deployment import Deployment, Parallel, Weights
from advisor.estimate.memory.ledger import device_weight_bytes
from advisor.estimate.memory.loading import tower_bytes
from advisor.profiles.architectures.fields import Fields
from advisor.profiles.architectures.read import read_config
from advisor.profiles.architectures.towers import towers_of
from advisor.profiles.engines import load_engine
from advisor.profiles.formats import GIB
from advisor.profiles.model_store import find_model
from tests.paths import ROOT

CONFIGS: dict[str, dict[str, Any]] = json.loads((ROOT / "tests/profiles/tower_configs.json").read_text(encoding="utf-8"))
with (ROOT / "tests/profiles/tower_counts.csv").open(encoding="utf-8") as file:
    COUNTS = {row["family"]: int(row["meta_parameters"]) for row in csv.DictReader(file)}
QWEN = "Qwen/Qwen3.5-27B"
VISION = 460_730_096
"""Parameters of that model's tower as transformers builds it."""


@pytest.mark.parametrize("family", CONFIGS)
def test_a_tower_has_the_parameters_that_transformers_builds(family: str) -> None:
    towers, uncounted = towers_of(Fields(CONFIGS[family], "config.json"), hidden=64)
    assert not uncounted
    assert sum(tower.parameters for tower in towers) == COUNTS[family]


def qwen(rules: dict[str, Any] | None) -> dict[str, Any]:
    config = json.loads((ROOT / "advisor/profiles/models/Qwen--Qwen3.5-27B.json").read_text(encoding="utf-8"))
    return {**config, **({"quantization_config": rules} if rules else {})}


@pytest.mark.parametrize(
    ("rules", "element_bytes"),
    [
        (None, 2),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, 2),
        ({"quant_method": "fp8", "modules_to_not_convert": ["lm_head", "model.visual.blocks.0.mlp.linear_fc1"]}, 2),
        ({"quant_method": "compressed-tensors", "format": "float-quantized", "ignore": ["re:.*visual.*"], "config_groups": {
            "0": {"targets": ["Linear"], "weights": {"num_bits": 8, "type": "float", "strategy": "tensor"}}}}, 2),
        ({"quant_method": "compressed-tensors", "format": "float-quantized", "config_groups": {
            "0": {"targets": ["re:.*layers.*", "re:.*visual.*"], "weights": {"num_bits": 8, "type": "float", "strategy": "tensor"}}}}, 1),
    ],
)  # fmt: skip
def test_a_tower_stays_in_the_models_dtype_unless_a_rule_converts_it(rules: dict[str, Any] | None, element_bytes: int) -> None:
    (tower,) = read_config(qwen(rules), id="qwen").towers
    assert tower.parameters == VISION
    assert tower.size_bytes == pytest.approx(element_bytes * VISION, rel=0.02)


def test_two_devices_hold_the_weights_of_qwen_as_vllm_logs_them() -> None:
    # 14.28 GiB a GPU on two RTX 5090, vLLM; buffers beside the weights are up to 1 %.
    rules = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    model = read_config(qwen(rules), id="qwen")
    deployment = Deployment(model, Weights(model.weight_format), parallel=Parallel(tensor=2), engine="vllm")
    assert tower_bytes(deployment) == model.tower_bytes / 2
    assert (device_weight_bytes(deployment) + tower_bytes(deployment)) / GIB == pytest.approx(14.28, rel=0.012)


def test_an_engine_of_text_alone_holds_no_tower_and_says_so() -> None:
    model = find_model(QWEN)
    deployment = Deployment(model, Weights(model.weight_format), engine="llama.cpp")
    assert tower_bytes(deployment) == 0
    assert load_engine("llama.cpp").tower_words(model) == ("vision tower of 879 MiB not counted: llama.cpp loads the language model alone",)
    assert load_engine("vllm").tower_words(model) == ("vision tower of 879 MiB counted: vllm loads it",)
    assert load_engine("vllm").tower_words(find_model("Qwen/Qwen3-8B")) == ()


def test_a_tower_of_an_unknown_family_is_said_not_to_be_counted() -> None:
    config = {**CONFIGS["llava"], "model_type": "fast_vlm", "vision_config": {"model_type": "timm_wrapper"}}
    spec = read_config(config, id="unknown")
    assert spec.uncounted_towers == ("vision tower not counted: no vision tower of this family is known",)
    damaged = read_config({**CONFIGS["llava"], "vision_config": {"hidden_size": "x"}}, id="damaged")
    assert "`hidden_size` is 'x'" in damaged.uncounted_towers[0]
