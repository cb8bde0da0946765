"""Tiny configs and random models of the decoder architectures of transformers, and their variants. Loads transformers when called."""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

TABLE = Path(__file__).with_name("architectures.yaml")
LONGEST = 256
"""Positions of a tiny config."""
ORIGINAL = 32
"""Tokens up to which the rotary frequencies of a tiny config do not change; also in the table."""
SPREAD = 0.2
"""Standard deviation of random weights: wide enough that greedy choices have clear margins."""
LEAST_SPREAD = 0.08
"""Matrices that an architecture initialises below this are widened."""


@cache
def table() -> dict[str, Any]:
    """The sizes, and the overrides and variants by architecture."""
    content: dict[str, Any] = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return content


def architectures() -> dict[str, str]:
    """The class of every decoder architecture of the installed transformers, by its `model_type`."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return dict(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def tiny_config(architecture: str, changes: Mapping[str, object] | None = None) -> Any:
    """A config of the architecture with tiny sizes and these `changes`; those of a text model within it are under `text_config`."""
    from transformers import CONFIG_MAPPING

    kind = CONFIG_MAPPING[architecture]
    overrides = table()["overrides"]
    special = overrides.get(architecture, {})
    settings: dict[str, Any] = {}
    for name, sub in _sub_configs(kind):
        settings[name] = {"model_type": sub.model_type, **_sizes(sub), **overrides.get(sub.model_type, {})}
    settings |= {**_sizes(kind), **special}
    for name, value in (changes or {}).items():
        holder = settings["text_config"] if "text_config" in settings and name not in settings else settings
        holder[name] = value
    return kind(**settings)


def _sub_configs(kind: Any) -> Iterator[tuple[str, Any]]:
    """The names and classes of the configs within one, as it has them by default."""
    try:
        default = kind()
    except (TypeError, ValueError):
        return
    for name in getattr(kind, "sub_configs", None) or {}:
        if getattr(default, name, None) is not None:
            yield name, type(getattr(default, name))


def _sizes(kind: Any) -> dict[str, Any]:
    """The tiny sizes of the fields that a config class has, small ids for its special tokens, and one layer of each kind."""
    fields = _fields(kind)
    sizes = {name: value for name, value in table()["sizes"].items() if name in fields and fields[name] is not False}
    if "qk_rope_head_dim" in fields:
        sizes.pop("head_dim", None)
        sizes["num_key_value_heads"] = sizes["num_attention_heads"]
    tokens = sorted(name for name, value in fields.items() if name.endswith("_token_id") and isinstance(value, int))
    sizes |= {name: 100 + number for number, name in enumerate(tokens)}
    sizes |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    kinds = fields.get("layer_types")
    if isinstance(kinds, list) and len(set(kinds)) > 1:
        distinct = list(dict.fromkeys(kinds))
        sizes |= {"layer_types": distinct, "num_hidden_layers": len(distinct)}
    return sizes


def _fields(kind: Any) -> dict[str, Any]:
    """The fields of a config class with the values that they have by default."""
    try:
        default = kind()
    except (TypeError, ValueError):
        return dict.fromkeys(getattr(kind, "__annotations__", {}))
    fields: dict[str, Any] = {**default.to_dict(), **dict.fromkeys(getattr(kind, "attribute_map", {}))}
    return {name: value for name, value in fields.items() if not isinstance(value, dict)}


def variants(architecture: str) -> dict[str, dict[str, object]]:
    """Changes of the tiny config to try, by name: kinds of rotary embedding, every flag of the architecture the other way, none.

    Those named `short` keep within the length up to which rotary frequencies do not change.
    """
    config = tiny_config(architecture).get_text_config(decoder=True)
    changes: dict[str, dict[str, object]] = {"plain": {}}
    for name, rope in table()["ropes"].items() if hasattr(config, "hidden_size") else ():
        if (parameters := _with_rope(config, rope)) is not None:
            changes[name] = {
                "rope_parameters": parameters,
                "max_position_embeddings": ORIGINAL if rope["rope_type"] == "dynamic" else LONGEST,
            }
    for name, value in config.to_dict().items():
        if isinstance(value, bool) and name not in table()["ignored_flags"] and not name.startswith(("output_", "_")):
            changes[f"{name}: {not value}".lower()] = {name: not value}
    return changes


def _with_rope(config: Any, rope: Mapping[str, object]) -> dict[str, Any] | None:
    """The rotary parameters of a config changed to this kind, for all layer types that have some; `None` without any."""
    parameters = getattr(config, "rope_parameters", None) or {}
    if "rope_type" not in parameters:
        groups = {name: _changed(config, group, rope) for name, group in parameters.items() if isinstance(group, dict)}
        return {**parameters, **groups} if groups else None
    return _changed(config, parameters, rope)


def _changed(config: Any, parameters: Mapping[str, Any], rope: Mapping[str, object]) -> dict[str, Any]:
    values = config.to_dict()
    width = values.get("qk_rope_head_dim") or values.get("head_dim") or config.hidden_size // config.num_attention_heads
    pairs = int(width * parameters.get("partial_rotary_factor", 1.0)) // 2
    factors = {"short_factor": [1.0] * pairs, "long_factor": [1.5 * (pair + 1) for pair in range(pairs)]}
    return {**parameters, **rope, **(factors if rope["rope_type"] == "longrope" else {})}


def random_model(config: Any) -> Any:
    """A random model of a config, eager attention; every matrix is spread widely, and no vector is zero."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if (parameter.dim() > 1 and float(parameter.std()) < LEAST_SPREAD) or (parameter.dim() == 1 and not bool(parameter.any())):
                parameter.normal_(std=SPREAD)
    return model
