"""Counts the parameters of every shipped model as transformers builds it, on the meta device, and prints a CSV table.

    python tools/count_parameters.py > tests/profiles/parameter_counts.csv
    python tools/count_parameters.py tests/profiles/family_configs.json > tests/profiles/family_counts.csv

Counts are of the language model with its head, tied weights once. `built_as` names the class that was built, `reason` says why a
model cannot be built. Quantisation is dropped before building: it changes how weights are stored, not which there are.
"""

import argparse
import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MODELS = Path(__file__).resolve().parent.parent / "advisor" / "profiles" / "models"
COLUMNS = ("id", "meta_parameters", "built_as", "reason")

# Snapshots whose `model_type` transformers does not know, though it has their architecture under another name.
ALIASES = {
    "kimi_k2": "deepseek_v3",  # the snapshot's own `architectures` is DeepseekV3ForCausalLM
    "deepseek_ref": "deepseek_v4",  # the snapshot's own `architectures` is DeepseekV4ForCausalLM
    "minimax_m3": "minimax_m3_vl_text",  # its configuration class names MiniMaxAI/MiniMax-M3 as its checkpoint
    "step3p7": "step3p5",  # a flat config holds the fields of the text model, which transformers calls step3p5
}
UNBUILDABLE = {
    "mimo": "transformers has no `mimo`; its code is in the model's own repository",
    "kimi_k3": "transformers has `kimi_linear` but without the latent experts (`routed_expert_hidden_size`) and gates of Kimi K3",
}


def main(files: list[str]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(COLUMNS)
    for name, config in named_configs(files).items():
        writer.writerow((name, *count(config)))


def named_configs(files: list[str]) -> dict[str, dict[str, Any]]:
    """The configs of `files`, each a mapping of names to configs, or else the shipped ones."""
    if files:
        return {name: config for file in files for name, config in json.loads(Path(file).read_text(encoding="utf-8")).items()}
    paths = sorted(MODELS.glob("*.json"), key=lambda path: path.name.lower())
    return {path.stem.replace("--", "/", 1): json.loads(path.read_text(encoding="utf-8")) for path in paths}


def count(config: dict[str, Any]) -> tuple[int | None, str, str]:
    """Parameters, class built and reason of failure for one config."""
    if config["model_type"] in UNBUILDABLE:
        return None, "", UNBUILDABLE[config["model_type"]]
    model = build(config)
    language = [parameter for name, parameter in model.named_parameters() if is_language(name)]
    return sum(parameter.numel() for parameter in language), type(model).__name__, ""


def build(config: dict[str, Any]) -> Any:
    """The model of `config` on the meta device: no memory, only shapes."""
    import torch  # heavy, so imported only when counting
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    whole = configuration(config)
    text = whole.get_text_config(decoder=True)
    with torch.device("meta"):
        if type(text) in AutoModelForCausalLM._model_mapping:
            text.tie_word_embeddings = whole.tie_word_embeddings
            return AutoModelForCausalLM.from_config(text)
        return AutoModelForImageTextToText.from_config(whole)


def configuration(config: dict[str, Any]) -> Any:
    """The configuration object of `config`, its quantisation dropped."""
    from transformers import AutoConfig, Step3p7Config

    fields = dict(without_quantization(config))
    kind = fields.pop("model_type")
    if "text_config" not in fields:
        kind = ALIASES.get(kind, kind)
    elif fields["text_config"].get("model_type") in ALIASES:
        fields["text_config"] = {**fields["text_config"], "model_type": ALIASES[fields["text_config"]["model_type"]]}
    if kind == "step3p5":
        return Step3p7Config(text_config=fields)
    return AutoConfig.for_model(kind, **fields)


def without_quantization(fields: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        if name not in ("quantization_config", "auto_map"):
            yield name, dict(without_quantization(value)) if name == "text_config" else value


def is_language(parameter: str) -> bool:
    return not any(part in parameter for part in ("visual", "vision", "multi_modal_projector", "audio"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", metavar="FILE", help="JSON mappings of names to configs; by default the shipped models")
    main(parser.parse_args().files)
