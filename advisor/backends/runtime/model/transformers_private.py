"""The private names of transformers that the runtime reads; no other module reads any.

Tested with transformers 5.23.0.
"""

from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def attention_as(model: Any, name: str) -> Iterator[None]:
    """Context in which the model calls the attention function registered as `name`, where it can be replaced."""
    before = attention_name(model)
    model.set_attn_implementation(name)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def without_run_settings(config: Any) -> dict[str, Any]:
    """The values of a config that decide what its model computes: without its name, version and attention implementation."""
    skipped = {"name_or_path", "transformers_version", "attn_implementation", "experts_implementation"}
    return {name: value for name, value in config.to_dict().items() if not name.startswith("_") and name not in skipped}
