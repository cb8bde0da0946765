"""The private names of transformers that the runtime reads; no other module reads any.

Tested with transformers 5.23.0.
"""

from typing import Any


def attention_name(model: Any) -> str | None:
    """The name of the attention function that the model calls, as registered with `AttentionInterface`."""
    name: str | None = model.config._attn_implementation
    return name


def calls_attention_interface(model: Any) -> bool:
    """Whether the model's layers look their attention up in `AttentionInterface`, so that it can be replaced."""
    return bool(model._can_set_attn_implementation())


def is_stateful(model: Any) -> bool:
    """Whether the model keeps a recurrent state besides keys and values."""
    return bool(getattr(model, "_is_stateful", False))


def has_accelerate_hook(module: Any) -> bool:
    """Whether accelerate has wrapped the module's `forward`, as `device_map` does for weights that are loaded on demand."""
    return hasattr(module, "_hf_hook")
