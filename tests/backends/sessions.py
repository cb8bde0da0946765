"""Loaded models for tests, their settings given flat: `kv_window=8` for `kv=KvCache(window=8)`."""

from dataclasses import replace
from typing import Any

from advisor.backends.model.loaded_model import LoadedModel

FIELDS = {
    "attention": ("attention", "backend"),
    "attention_window": ("attention", "window"),
    "attention_pattern": ("attention", "pattern"),
    "kv_layout": ("kv", "layout"),
    "kv_block_tokens": ("kv", "block_tokens"),
    "kv_format": ("kv", "format"),
    "kv_prefix_reuse": ("kv", "prefix_reuse"),
    "kv_window": ("kv", "window"),
    "kv_sink_tokens": ("kv", "sink_tokens"),
    "decoding": ("decoding", "method"),
    "draft_tokens": ("decoding", "draft_tokens"),
    "batching": ("batching", "policy"),
    "max_sequences": ("batching", "max_sequences"),
    "token_budget": ("batching", "token_budget"),
    "chunked": ("batching", "chunked"),
}
"""The record and the field of it that each flat setting is."""


def with_settings(session: LoadedModel, **settings: Any) -> LoadedModel:
    """The session with these settings; what is no field of a record is a field of the session itself."""
    changed: dict[str, Any] = {name: value for name, value in settings.items() if name not in FIELDS}
    for name, value in settings.items():
        if name in FIELDS:
            record, field = FIELDS[name]
            changed[record] = replace(changed.get(record, getattr(session, record)), **{field: value})
    return replace(session, **changed)
