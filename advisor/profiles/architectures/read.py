"""Reads a `config.json` into a `ModelSpec`, with the reader of its `model_type`."""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from advisor.profiles.architectures.cache_scheme import cache_format_of
from advisor.profiles.architectures.classic import CLASSIC_READERS
from advisor.profiles.architectures.dense import DENSE_READERS
from advisor.profiles.architectures.fields import Fields
from advisor.profiles.architectures.gemma import GEMMA_READERS
from advisor.profiles.architectures.hybrids import HYBRID_READERS
from advisor.profiles.architectures.latent import LATENT_READERS
from advisor.profiles.architectures.layers import Matrix
from advisor.profiles.architectures.moe import MOE_READERS
from advisor.profiles.architectures.parts import Blocks
from advisor.profiles.architectures.positions import positions_of
from advisor.profiles.architectures.recurrent import RECURRENT_READERS
from advisor.profiles.architectures.routed import ROUTED_READERS
from advisor.profiles.architectures.spec import ModelSpec
from advisor.profiles.architectures.storage import read_storage
from advisor.profiles.architectures.towers import towers_of

READERS: dict[str, Callable[[Fields], Blocks]] = {
    **DENSE_READERS,
    **CLASSIC_READERS,
    **MOE_READERS,
    **ROUTED_READERS,
    **LATENT_READERS,
    **RECURRENT_READERS,
    **HYBRID_READERS,
    **GEMMA_READERS,
}
LANGUAGE_PARTS = ("text_config", "llm_config", "language_config", "thinker_config")
"""Keys of the language model in multimodal configs; the first that is set holds. InternVL's own configs have `llm_config`."""
OTHER_PARTS = ("vision_config", "audio_config")
_PART_TYPES = {
    "llava": "llama", "llava_next": "llama", "llava_onevision": "qwen2", "mistral3": "mistral", "idefics2": "mistral",
    "idefics3": "llama", "smolvlm": "llama", "aya_vision": "cohere2", "cohere2_vision": "cohere2", "internvl": "qwen2",
    "internvl_chat": "llama", "ovis2": "qwen2", "paligemma": "gemma", "gemma3": "gemma3_text", "gemma3n": "gemma3n_text",
    "gemma4": "gemma4_text", "qwen2_vl": "qwen2_vl_text", "qwen2_5_vl": "qwen2_5_vl_text", "qwen3_vl": "qwen3_vl_text",
    "qwen3_vl_moe": "qwen3_vl_moe_text", "qwen3_5": "qwen3_5_text", "qwen3_5_moe": "qwen3_5_moe_text", "glm4v": "glm4v_text",
    "glm46v": "glm4v_text", "glm4v_moe": "glm4v_moe_text", "llama4": "llama4_text", "kimi_k25": "deepseek_v3", "kimi_vl": "deepseek_v3",
    "voxtral": "llama", "qwen2_audio": "qwen2", "lfm2_vl": "lfm2", "exaone4_5": "exaone4", "deepseek_vl_v2": "deepseek_v2",
    "fast_vlm": "qwen2", "perception_lm": "llama", "janus": "llama",
}  # fmt: skip
"""`model_type` of the language model where a multimodal config leaves it out, by its own (transformers 5.23; InternVL's own code)."""
_UNCHECKED = {
    "kimi_k3": "Kimi K3's latent experts and gates are read from the names of its fields; no public code was there to check the count",
    "internlm2": "counted as Llama with fused projections; transformers has no code of its own to check the count",
    "mimo": "counted as Qwen 2, whose shape it has; transformers has no code of its own to check the count",
}


def read_config(
    config: Mapping[str, Any],
    *,
    id: str,
    where: str = "config.json",
    folder: str | None = None,
    quantisation: Mapping[str, Any] | None = None,
    quantisation_file: str = "hf_quant_config.json",
) -> ModelSpec:
    """The spec of the model that the parsed `config.json` describes.

    `where` names the file in errors, `folder` is where the weights are, `quantisation` the content of `quantisation_file`, which is
    read where the config describes none.
    Raises `AdvisorError` (`model-config`) naming the key at fault.
    """
    whole = Fields(config, where)
    text = language_part(whole)
    fields = _with_outer_keys(text, whole) if text else whole
    blocks = _reader(fields)(fields)
    described = Fields(quantisation, quantisation_file) if quantisation else None
    embedding = Matrix(name="embed_tokens", n=blocks.vocab_size, k=blocks.hidden_size, kind="embedding")
    head = Matrix(name="lm_head", n=blocks.vocab_size, k=blocks.hidden_size, kind="head", bias=blocks.head_bias)
    towers, uncounted = towers_of(whole, blocks.hidden_size)
    storage = read_storage(
        blocks,
        embedding,
        None if blocks.tied else head,
        whole=whole,
        text=fields,
        id=id,
        other=described,
        towers=towers,
    )
    return ModelSpec(
        id=id,
        family=blocks.family,
        architecture=str((whole.items("architectures") or [fields.word("model_type")])[0]),
        hidden_size=blocks.hidden_size,
        vocab_size=blocks.vocab_size,
        max_context_tokens=blocks.max_context_tokens,
        layers=storage.layers,
        embedding=storage.embedding,
        head=storage.head,
        vector_parameters=blocks.vector_parameters,
        layers_per_block=blocks.layers_per_block,
        lookups=storage.lookups,
        towers=storage.towers,
        uncounted_towers=uncounted,
        weight_format=storage.weight_format,
        weight_format_reason=storage.reason,
        cache_format=cache_format_of((whole, fields), described),
        warnings=storage.warnings,
        config_digest=hashlib.sha256(json.dumps(config, sort_keys=True, separators=(",", ":")).encode()).hexdigest(),
        folder=folder,
        language_model_only=text is not None or any(name in whole.values for name in OTHER_PARTS),
        positions=positions_of(fields),
        unchecked=_UNCHECKED.get(str(whole.values.get("model_type"))) or _UNCHECKED.get(str(fields.values.get("model_type"))),
    )


def language_part(whole: Fields) -> Fields | None:
    """The part of a multimodal config that describes its language model, with its `model_type`; `None` where the config is flat."""
    name = next((name for name in LANGUAGE_PARTS if whole.values.get(name) is not None), None)
    part = whole.inner(name) if name else None
    if part is None:
        return None
    within = language_part(part)
    if within is not None:
        return within
    if part.word("model_type") is None and whole.values.get("model_type") in _PART_TYPES:
        return Fields({**part.values, "model_type": _PART_TYPES[str(whole.values["model_type"])]}, part.where)
    return part


def _reader(fields: Fields) -> Callable[[Fields], Blocks]:
    kind = fields.word("model_type")
    if kind is None:
        raise fields.problem("`model_type` is missing")
    if kind not in READERS:
        raise fields.problem(f"unknown `model_type` {kind!r}", "known types: " + ", ".join(sorted(READERS)))
    return READERS[kind]


def _with_outer_keys(text: Fields, whole: Fields) -> Fields:
    """`text_config` with the outer config's dtype, and its `tie_word_embeddings`, which overrides."""
    outer = {name: whole.values[name] for name in ("dtype", "torch_dtype") if name in whole.values}
    inner = {**outer, **text.values}
    if "tie_word_embeddings" in whole.values:
        inner["tie_word_embeddings"] = whole.values["tie_word_embeddings"]
    return Fields(inner, text.where)
