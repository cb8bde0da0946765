"""Turns a `config.json` into a `ModelSpec`: one reader per `model_type`."""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from advisor.profiles.layers import Matrix
from advisor.profiles.model_dense import Blocks, llama_blocks
from advisor.profiles.model_fields import Fields
from advisor.profiles.models import ModelSpec

READERS: dict[str, Callable[[Fields], Blocks]] = {
    "llama": llama_blocks,
    "mistral": llama_blocks,
    "qwen2": llama_blocks,
    "qwen3": llama_blocks,
}
_FORMATS = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}


def read_config(config: Mapping[str, Any], *, id: str, where: str = "config.json", folder: str | None = None) -> ModelSpec:
    """The spec of the model that `config` describes. Raises `AdvisorError` (`model-config`) naming the field at fault."""
    fields = Fields(config, where)
    kind = fields.word("model_type")
    if kind is None:
        raise fields.problem("`model_type` is missing")
    if kind not in READERS:
        raise fields.problem(f"unknown `model_type` {kind!r}", "known types: " + ", ".join(sorted(READERS)))
    blocks = READERS[kind](fields)
    hidden, vocabulary = fields.count("hidden_size"), fields.count("vocab_size")
    return ModelSpec(
        id=id,
        family=blocks.family,
        architecture=str((fields.items("architectures") or [kind])[0]),
        hidden_size=hidden,
        vocab_size=vocabulary,
        max_context_tokens=fields.count("max_position_embeddings"),
        layers=blocks.layers,
        embedding=Matrix(name="embed_tokens", n=vocabulary, k=hidden, kind="embedding"),
        head=None if blocks.tied else Matrix(name="lm_head", n=vocabulary, k=hidden, kind="head"),
        vector_parameters=blocks.vector_parameters,
        weight_format=_FORMATS.get(fields.word("dtype") or fields.word("torch_dtype") or "bfloat16", "bf16"),
        config_digest=hashlib.sha256(json.dumps(config, sort_keys=True, separators=(",", ":")).encode()).hexdigest(),
        folder=folder,
    )
