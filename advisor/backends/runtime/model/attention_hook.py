"""The attention function that transformers models call: it passes each call to the running step."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from advisor.profiles.errors import AdvisorError, ExitCode

NAME = "advisor-paged"
"""Name under which it is registered in transformers."""


@dataclass(frozen=True, slots=True)
class Options:
    """Options of one attention call of a model."""

    scale: float
    window: int | None = None
    softcap: float | None = None
    sinks: Tensor | None = None


class Attends(Protocol):
    """Computes the attention calls of a running model."""

    def attend_rows(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor, options: Options) -> Tensor:
        """Attention of queries [T, H, D] after the new keys [T, K, D] and values [T, K, E] are stored; returns [T, H, E]."""


@dataclass(frozen=True, slots=True)
class Rope:
    """Cosines and sines [T, D'] of the rows' positions, half-split convention."""

    cos: Tensor
    sin: Tensor


@runtime_checkable
class AttendsUnrotated(Protocol):
    """Computes attention including the rotary embedding of queries and keys."""

    def attend_unrotated(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor, rope: Rope, options: Options) -> Tensor:
        """As `Attends.attend_rows`, of queries and keys without rotary embedding; queries may be overwritten."""


_ACTIVE: ContextVar[Attends] = ContextVar("advisor_attending")


@contextmanager
def attending(step: Attends) -> Iterator[None]:
    """Context in which `step` computes the attention calls of models."""
    token = _ACTIVE.set(step)
    try:
        yield
    finally:
        _ACTIVE.reset(token)


def attention_function(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **extra: Any,
) -> tuple[Tensor, None]:
    """The function registered with `transformers.AttentionInterface`. Raises `AdvisorError` for unsupported options."""
    if attention_mask is not None:
        raise unsupported(type(module).__name__, "its attention adds a position bias or its own mask")
    layer, options = options_of(module, query, **extra)
    return attend(_ACTIVE.get(), layer, query, key, value, options), None


def options_of(
    module: Any,
    query: Tensor,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **extra: Any,
) -> tuple[int, Options]:
    """The layer and the options of a model's attention call with these arguments, of queries [1, H, T, D].

    Raises `AdvisorError` `unsupported-model` for other kinds of attention.
    """
    if extra.get("position_bias") is not None:
        raise unsupported(type(module).__name__, "its attention adds a position bias or its own mask")
    if extra.get("is_causal") is False:
        raise unsupported(type(module).__name__, "its attention is not causal")
    layer = getattr(module, "layer_idx", None)
    if layer is None:
        raise unsupported(type(module).__name__, "its attention modules carry no layer index")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return layer, Options(scale, sliding_window, softcap, s_aux)


def attend(step: Attends, layer: int, query: Tensor, key: Tensor, value: Tensor, options: Options) -> Tensor:
    """Attention of tensors [1, H, T, D], the layout of transformers; returns [1, T, H, E], contiguous as models view it in other shapes."""
    queries, keys, values = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    return step.attend_rows(layer, queries, keys, values, options).contiguous().unsqueeze(0)


def unsupported(name: str, why: str, *help_lines: str) -> AdvisorError:
    """The error for a model that the runtime cannot run."""
    return AdvisorError(
        "unsupported-model",
        f"the runtime cannot run {name}: {why}",
        exit_code=ExitCode.FAILED,
        notes=("it runs decoder-only models that call attention through transformers' AttentionInterface",),
        help=help_lines,
    )


def register() -> None:
    """Register the function with transformers; as no mask function has that name, transformers builds no mask."""
    from transformers import AttentionInterface  # takes seconds to import

    AttentionInterface.register(NAME, attention_function)
