"""Paths of modules are those that transformers gives them."""

import json
from typing import Any

import pytest

from advisor.profiles.architectures.quantisation.module_names import ModuleNames, module_names, words_of
from advisor.profiles.architectures.read import read_config
from tests.paths import ROOT

FAMILIES: dict[str, dict[str, Any]] = json.loads((ROOT / "tests/profiles/family_configs.json").read_text(encoding="utf-8"))


def without_indices(path: str) -> str:
    """A path without the index of an expert, whose weights transformers 5 stacks."""
    return ".".join(part for part in path.split(".") if not part.isdigit())


def paths(names: ModuleNames, config: dict[str, Any]) -> set[str]:
    """All paths of a family's matrices, and of the modules that hold them stacked or fused."""
    spec = read_config(config, id="family")
    modules = [names.of_layer(index, matrix) for index, layer in enumerate(spec.layers) for matrix in layer.matrices]
    modules += [names.outside(matrix) for matrix in spec.outside]
    return {without_indices(path) for module in modules for path in (module.path, *module.aliases)}


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_matrix_of_transformers_has_a_path_of_ours(family: str) -> None:
    pytest.importorskip("transformers")
    from tools.count_parameters import build, is_language

    config = json.loads(json.dumps(FAMILIES[family]))
    left_out = ("conv1d", "time_mix", "A_log", "position", "wpe", "_bias", "q_norm", "k_norm", "conv.conv")
    theirs = [
        name.removesuffix(".weight")
        for name, parameter in build(config).named_parameters()
        if parameter.dim() >= 2 and is_language(name) and not any(word in name for word in left_out)
    ]
    part = config.get("text_config")
    kind = part.get("model_type", "qwen2") if part else config["model_type"]
    names = module_names(kind, multimodal=part is not None, words=words_of(theirs))
    assert {without_indices(path) for path in theirs} <= paths(names, FAMILIES[family])
