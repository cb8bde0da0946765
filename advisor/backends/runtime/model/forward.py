"""Tokens to logits: by the runtime's decoder where a probe shows that its logits equal the model's, else by the model's own code."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from advisor.backends.runtime.cache.pool import KvShape
from advisor.backends.runtime.device.memory import is_out_of_memory
from advisor.backends.runtime.model import masks
from advisor.backends.runtime.model.attention_hook import NAME, Attends, Options, attending, register, unsupported
from advisor.backends.runtime.model.decoder import Decoder
from advisor.backends.runtime.model.masks import LayerAttention, MaskRecorder, recording
from advisor.backends.runtime.model.model_check import ModelCheck, check_length
from advisor.backends.runtime.model.probe import Forward, difference, probe_ids, probe_logits
from advisor.backends.runtime.model.row_operators import RowOperators, plain
from advisor.backends.runtime.model.structure import build, unsupported_reason
from advisor.backends.runtime.model.transformers_private import attention_as, attention_name, calls_attention_interface, is_stateful
from advisor.backends.runtime.model.verification import ROWS_ALLOWED, is_rounded, tolerance
from advisor.profiles.errors import AdvisorError

RECORDED_TOKENS = 8
"""Tokens of the pass whose attention calls are recorded."""
SHORTEST = 64
"""Tokens of a sequence that a model is prepared for where nothing longer is asked."""


class TransformersForward:
    """The model's own code. Use inside `patched_attention(model)`.

    Each layer attends within its window of `windows`, by default within that of its own call.
    """

    def __init__(self, model: Any, windows: Sequence[int | None] | None = None) -> None:
        self.model = model
        self.windows = windows
        self._keeps_rows = "logits_to_keep" in inspect.signature(model.forward).parameters

    def __call__(self, step: Attends, ids: Tensor, positions: Tensor, rows: Tensor | None) -> Tensor:
        """See `Forward`."""
        keep = {"logits_to_keep": rows} if self._keeps_rows and rows is not None else {}
        with attending(step if self.windows is None else _Windowed(step, self.windows)):
            out = self.model(input_ids=ids.unsqueeze(0), position_ids=positions.unsqueeze(0), use_cache=False, return_dict=True, **keep)
        logits: Tensor = out.logits[0]
        return logits if keep or rows is None else logits.index_select(0, rows)


@dataclass(frozen=True, slots=True)
class _Windowed:
    """A step in which each layer attends within a window that models may give to their masks alone."""

    step: Attends
    windows: Sequence[int | None]

    def attend_rows(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor, options: Options) -> Tensor:
        """See `Attends`."""
        return self.step.attend_rows(layer, queries, keys, values, replace(options, window=self.windows[layer]))


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model ready to compute logits."""

    forward: Forward
    attention: tuple[LayerAttention, ...]
    """Attention of each layer."""
    fallback_reason: str | None
    """Why the model's own code runs; `None` where the runtime's decoder does."""

    @property
    def heads(self) -> tuple[KvShape, ...]:
        """Shape of each layer's keys and values."""
        return tuple(attention.kv for attention in self.attention)

    @property
    def windows(self) -> tuple[int | None, ...]:
        """The attention window of each layer; `None` for full attention."""
        return tuple(attention.options.window for attention in self.attention)


@contextmanager
def patched_attention(model: Any) -> Iterator[None]:
    """Replace the model's attention by the runtime's for the duration. Raises `AdvisorError` `unsupported-model`."""
    _refuse_unsuitable(model)
    register()
    with attention_as(model, NAME):
        if attention_name(model) != NAME:
            raise unsupported(type(model).__name__, "it does not use transformers' AttentionInterface")
        yield


def prepared(model: Any, undo: ExitStack, operators: RowOperators | None = None, *, max_tokens: int = SHORTEST) -> Prepared:
    """The fastest forward pass of the model for sequences of up to `max_tokens`, checked; `operators` are those of `plain()` by default.

    Raises `AdvisorError` `unsupported-model` where the runtime would not give the model's own tokens.
    """
    undo.enter_context(patched_attention(model))
    with _failures_of(model), torch.inference_mode():
        attention = _recorded(model, max_tokens)
        windows = [layer.options.window for layer in attention]
        own = TransformersForward(model, windows)
        check_length(model, max_tokens)
        check = ModelCheck(model, windows, max_tokens, (TransformersForward.__name__, Decoder.__name__))
        fault = check.fault_of(own)
        if fault is not None:
            raise unsupported(type(model).__name__, fault)
        logits = probe_logits(own, model, max_tokens)
    reason = unsupported_reason(model)
    if reason is not None:
        return Prepared(own, attention, reason)
    with ExitStack() as attempt:
        options = [layer.options for layer in attention]
        ours = build(model, options, operators or plain(), attempt)
        reason = _decoder_fault(ours, check, logits)
        if reason is None:
            undo.push(attempt.pop_all())
            return Prepared(ours, attention, None)
    return Prepared(own, attention, reason)


def _decoder_fault(ours: Forward, check: ModelCheck, logits: Tensor) -> str | None:
    """Why the runtime's decoder cannot compute what the model's own code does, as the `logits` of a probe; `None` where it does."""
    try:
        with torch.inference_mode():
            computed = probe_logits(ours, check.model, check.max_tokens)
            share = difference(computed, logits, tolerance(check.model), ROWS_ALLOWED if is_rounded(check.model) else 0.0)
            if share is None:
                return check.fault_of(ours)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        if is_out_of_memory(error):
            raise
        return f"our decoder fails on its modules ({type(error).__name__}: {(str(error).splitlines() or [''])[0]})"
    return f"our logits differ from those of its own code by {share:.1e} of their norm"


def _recorded(model: Any, max_tokens: int) -> tuple[LayerAttention, ...]:
    """The attention of each layer, with the windows of the masks that eager attention would get.

    Raises `AdvisorError` unless every layer attended once, causally, within a window or none.
    """
    recorder, tokens = MaskRecorder(type(model).__name__, max_tokens), min(RECORDED_TOKENS, max_tokens)
    ids = probe_ids(torch.arange(tokens, device=model.device), model).unsqueeze(0)
    masks.register()
    with attention_as(model, masks.NAME), recording(recorder):
        model(input_ids=ids, use_cache=False, return_dict=True)
    layers = model.config.get_text_config().num_hidden_layers
    if recorder.calls != layers or sorted(recorder.layers) != list(range(layers)):
        raise unsupported(type(model).__name__, f"{recorder.calls} calls of attention in {layers} layers come through the interface")
    return tuple(recorder.layers[layer] for layer in range(layers))


@contextmanager
def _failures_of(model: Any) -> Iterator[None]:
    """Errors of the model's own code mean that the runtime cannot run it."""
    try:
        yield
    except AdvisorError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        reason = (str(error).splitlines() or [""])[0]
        why = f"its own code fails under the runtime's attention ({type(error).__name__}: {reason})"
        raise unsupported(type(model).__name__, why) from error


def _refuse_unsuitable(model: Any) -> None:
    """Raise `AdvisorError` `unsupported-model` for recurrent states and for attention that is not causal."""
    name, config = type(model).__name__, model.config.get_text_config()
    if getattr(model.config, "is_encoder_decoder", False):
        raise unsupported(name, "it is an encoder-decoder model")
    if is_stateful(model):
        raise unsupported(name, "it keeps a recurrent state besides keys and values")
    if getattr(config, "num_kv_shared_layers", None):
        raise unsupported(name, "its layers share caches")
    unsupported_kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if unsupported_kinds:
        raise unsupported(name, f"it has layers of kind {', '.join(sorted(unsupported_kinds))}")
    if not calls_attention_interface(model):
        raise unsupported(name, "it does not call attention through transformers' AttentionInterface")
