"""What each layer of a model attends to, read from the masks that transformers builds for its eager attention."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from advisor.backends.runtime.cache.pool import KvShape
from advisor.backends.runtime.model.attention_hook import Options, options_of, unsupported

NAME = "advisor-masks"
"""Name under which the recording attention and its masks are registered in transformers."""
NOT_CAUSAL = "its attention is not causal"
MOST_KEYS = 2**20
"""Keys of which a mask is asked at most."""
Window = int | None
"""Newest keys that a query attends to, itself included; `None` for all."""
MaskFunction = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""Whether a query attends to a key, of indices of batch, head, query and key: how transformers states a mask."""


@dataclass(frozen=True, slots=True)
class LayerAttention:
    """A layer's attention: its query heads, the shape of its keys and values, and the options of its call."""

    query_heads: int
    kv: KvShape
    options: Options


class UnknownMaskError(Exception):
    """A mask other than a causal one with or without a window; its text says what it is."""


def window_of(mask_function: MaskFunction, longest: int, device: torch.device) -> Window:
    """The window of a causal mask, found by asking which of `longest` keys some queries attend to.

    Raises `UnknownMaskError` for masks that are not causal, not a sliding window, or not a function of the positions alone.
    """
    longest = min(longest, MOST_KEYS)
    zero, keys = torch.zeros((), dtype=torch.int64, device=device), torch.arange(longest, device=device)
    queries = torch.tensor(sorted({0, 1 % longest, longest // 2, longest - 1}), device=device).unsqueeze(1)
    try:
        seen = mask_function(zero, zero, queries, keys.unsqueeze(0)).expand(len(queries), longest)
    except (IndexError, RuntimeError) as error:
        raise UnknownMaskError("its mask depends on more than positions") from error
    window = int(seen[-1].sum())
    if bool((seen & (keys > queries)).any()):
        raise UnknownMaskError(NOT_CAUSAL)
    if not torch.equal(seen, (keys <= queries) & (keys > queries - window)):
        raise UnknownMaskError("its mask is neither causal nor a sliding window")
    return None if window == longest else window


@dataclass(slots=True)
class MaskRecorder:
    """Records the attention calls of one forward pass, and with which mask each layer attends."""

    model_name: str
    longest: int
    """Tokens of the longest sequence: a window as long hides nothing."""
    calls: int = 0
    layers: dict[int, LayerAttention] = field(default_factory=dict)
    _masks: list[tuple[Tensor, Window | UnknownMaskError]] = field(default_factory=list)

    def add_mask(self, mask: Tensor, mask_function: MaskFunction) -> None:
        """Remember a mask of the pass, and what it hides."""
        try:
            self._masks.append((mask, window_of(mask_function, self.longest, mask.device)))
        except UnknownMaskError as error:
            self._masks.append((mask, error))

    def add_call(self, layer: int, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, options: Options) -> None:
        """Record a call with tensors [1, H, T, D]. Raises `AdvisorError` `unsupported-model` where its mask is not a known one."""
        self.calls += 1
        window = self._window(mask)
        kv = KvShape(kv_heads=key.shape[1], key_width=key.shape[3], value_width=value.shape[3])
        self.layers[layer] = LayerAttention(query.shape[1], kv, Options(options.scale, window, options.softcap, options.sinks))

    def _window(self, mask: Tensor | None) -> Window:
        if mask is None:
            raise unsupported(self.model_name, NOT_CAUSAL)
        window = next((window for built, window in self._masks if built.data_ptr() == mask.data_ptr()), _unknown())
        if isinstance(window, UnknownMaskError):
            raise unsupported(self.model_name, str(window))
        return window


_ACTIVE: ContextVar[MaskRecorder] = ContextVar("advisor_mask_recorder")


@contextmanager
def recording(recorder: MaskRecorder) -> Iterator[None]:
    """Context in which models whose attention is `NAME` report their calls to `recorder`."""
    token = _ACTIVE.set(recorder)
    try:
        yield
    finally:
        _ACTIVE.reset(token)


def register() -> None:
    """Register the recording attention and its masks with transformers."""
    from transformers import AttentionInterface, AttentionMaskInterface  # takes seconds to import

    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, _mask)


def _attention(module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **extra: Any) -> tuple[Tensor, None]:
    """Records the call; returns the values [1, T, H, E], as what is computed does not matter."""
    layer, options = options_of(module, query, **extra)
    _ACTIVE.get().add_call(layer, query, key, value, attention_mask, options)
    return value.repeat_interleave(query.shape[1] // value.shape[1], 1).transpose(1, 2).contiguous(), None


def _mask(**arguments: Any) -> Tensor | None:
    """The mask of eager attention [1, 1, T, T]; `None` where nothing is masked."""
    from transformers import AttentionMaskInterface

    mask: Tensor | None = AttentionMaskInterface()["eager"](**arguments)
    if mask is not None:
        _ACTIVE.get().add_mask(mask, arguments["mask_function"])
    return mask


def _unknown() -> UnknownMaskError:
    return UnknownMaskError("its attention adds a position bias or its own mask")
