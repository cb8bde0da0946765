"""Tokens to logits: by the runtime's decoder where a probe shows that its logits equal the model's, else by the model's own code."""

import inspect
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from advisor.backends.model.quantised_linear import QuantisedLinear
from advisor.backends.runtime.cache.pool import KvShape
from advisor.backends.runtime.model.attention_hook import NAME, Attends, Options, attending, register, unsupported
from advisor.backends.runtime.model.row_operators import RowOperators, plain
from advisor.backends.runtime.model.structure import build, unsupported_reason
from advisor.backends.runtime.model.transformers_private import attention_name, calls_attention_interface, is_stateful
from advisor.kernels.attention.paged_attention import additive_mask, eager_attention, widen_mask

PROBE_TOKENS = 8
"""Tokens of the sequence on which the decoder is compared with the model's own code."""


class Forward(Protocol):
    """Computes logits."""

    def __call__(self, step: Attends, ids: Tensor, positions: Tensor, rows: Tensor | None) -> Tensor:
        """Logits [R, V] of `rows` [R] (default: all) of tokens `ids` [T] at `positions` [T]; `step` computes the attention."""


class TransformersForward:
    """The model's own code. Use inside `patched_attention(model)`."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self._keeps_rows = "logits_to_keep" in inspect.signature(model.forward).parameters

    def __call__(self, step: Attends, ids: Tensor, positions: Tensor, rows: Tensor | None) -> Tensor:
        """See `Forward`."""
        keep = {"logits_to_keep": rows} if self._keeps_rows and rows is not None else {}
        with attending(step):
            out = self.model(input_ids=ids.unsqueeze(0), position_ids=positions.unsqueeze(0), use_cache=False, return_dict=True, **keep)
        logits: Tensor = out.logits[0]
        return logits if keep or rows is None else logits.index_select(0, rows)


@dataclass(frozen=True, slots=True)
class LayerAttention:
    """A layer's attention: its query heads, and the options of its call."""

    query_heads: int
    options: Options


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model ready to compute logits."""

    forward: Forward
    heads: tuple[KvShape, ...]
    """Shape of each layer's keys and values."""
    attention: tuple[LayerAttention, ...]
    """Attention of each layer."""
    fallback_reason: str | None
    """Why the model's own code runs; `None` where the runtime's decoder does."""

    @property
    def windows(self) -> tuple[int | None, ...]:
        """The attention window of each layer; `None` for full attention."""
        return tuple(attention.options.window for attention in self.attention)


@contextmanager
def patched_attention(model: Any) -> Iterator[None]:
    """Replace the model's attention by the runtime's for the duration. Raises `AdvisorError` `unsupported-model`."""
    _refuse_unsuitable(model)
    register()
    before = attention_name(model)
    model.set_attn_implementation(NAME)
    if attention_name(model) != NAME:
        raise unsupported(type(model).__name__, "it does not use transformers' AttentionInterface")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def prepared(model: Any, undo: ExitStack, operators: RowOperators | None = None) -> Prepared:
    """The fastest forward pass of the model, checked on a few tokens; `operators` are those of `plain()` by default.

    Raises `AdvisorError` `unsupported-model`.
    """
    undo.enter_context(patched_attention(model))
    own, trial = TransformersForward(model), _ProbeRun()
    with torch.inference_mode():
        logits = trial.run(own, model)
    heads = trial.heads_of(model)
    attention = tuple(LayerAttention(trial.query_heads[layer], trial.options[layer]) for layer in range(len(heads)))
    reason = unsupported_reason(model)
    if reason is not None:
        return Prepared(own, heads, attention, reason)
    with ExitStack() as attempt:
        ours = build(model, trial.options, operators or plain(), attempt)
        with torch.inference_mode():
            reason = _difference(_ProbeRun().run(ours, model), logits, _tolerance(model))
        if reason is None:
            undo.push(attempt.pop_all())
            return Prepared(ours, heads, attention, None)
    return Prepared(own, heads, attention, reason)


@dataclass(slots=True)
class _ProbeRun:
    """A run of a few tokens of one sequence without a cache, which records every layer's KV shape and attention options."""

    heads: dict[int, KvShape] = field(default_factory=dict)
    options: dict[int, Options] = field(default_factory=dict)
    query_heads: dict[int, int] = field(default_factory=dict)
    calls: int = 0

    def run(self, forward: Forward, model: Any) -> Tensor:
        """Logits of all rows. Positions are far apart, so that rotary embeddings differ."""
        config, device = model.config.get_text_config(), model.device
        count = torch.arange(PROBE_TOKENS, device=device)
        apart = max(1, min(getattr(config, "max_position_embeddings", None) or 1, 64) // PROBE_TOKENS)
        return forward(self, probe_ids(count, model), count * apart, count)

    def attend_rows(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor, options: Options) -> Tensor:
        """See `Attends`."""
        self.calls += 1
        self.options[layer], self.query_heads[layer] = options, queries.shape[1]
        self.heads[layer] = KvShape(kv_heads=keys.shape[1], key_width=keys.shape[2], value_width=values.shape[2])
        positions = torch.arange(len(queries), device=queries.device).unsqueeze(0)
        mask = widen_mask(additive_mask(positions, len(queries), queries.dtype), queries.shape[1] // keys.shape[1])
        key, value = (rows.transpose(0, 1).unsqueeze(0).contiguous() for rows in (keys, values))
        return eager_attention(queries.unsqueeze(0), key, value, mask, scale=options.scale, softcap=options.softcap, sinks=options.sinks)[0]

    def heads_of(self, model: Any) -> tuple[KvShape, ...]:
        """Shape of each layer's keys and values. Raises `AdvisorError` unless every layer attended once."""
        layers = model.config.get_text_config().num_hidden_layers
        if self.calls != layers or sorted(self.heads) != list(range(layers)):
            raise unsupported(type(model).__name__, f"{self.calls} calls of attention in {layers} layers come through the interface")
        return tuple(self.heads[layer] for layer in range(layers))


def probe_ids(count: Tensor, model: Any) -> Tensor:
    """Token ids [T] for a probe from the numbers 0 to T − 1 [T], spread over the model's vocabulary."""
    ids: Tensor = (count * 37 + 11) % model.config.get_text_config().vocab_size
    return ids


def _tolerance(model: Any) -> float:
    """Relative difference of logits that rounding explains, in two-byte or four-byte types."""
    rounded = any(isinstance(module, QuantisedLinear) for module in model.modules())
    return 0.03 if rounded or model.dtype.itemsize < 4 else 1e-4


def _difference(ours: Tensor, theirs: Tensor, tolerance: float) -> str | None:
    """How logits [T, V] differ from the model's: by more than `tolerance`, or in a clear choice of a token; `None` if they agree."""
    ours, theirs = ours.float(), theirs.float()
    error = float((ours - theirs).norm() / theirs.norm().clamp_min(1e-30))
    best = theirs.amax(-1)
    margin = best - theirs.gather(-1, ours.argmax(-1, keepdim=True))[:, 0]
    if not error <= tolerance or bool((margin > 2 * tolerance * theirs.abs().amax(-1)).any()):
        return f"our logits differ from those of its own code by {error:.1e} of their norm"
    return None


def _refuse_unsuitable(model: Any) -> None:
    """Raise `AdvisorError` `unsupported-model` for recurrent states and for attention that is not causal."""
    name, config = type(model).__name__, model.config.get_text_config()
    if getattr(model.config, "is_encoder_decoder", False):
        raise unsupported(name, "it is an encoder-decoder model")
    if is_stateful(model):
        raise unsupported(name, "it keeps a recurrent state besides keys and values")
    if getattr(config, "num_kv_shared_layers", None):
        raise unsupported(name, "its layers share caches")
    odd = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if odd:
        raise unsupported(name, f"it has layers of kind {', '.join(sorted(odd))}")
    if not calls_attention_interface(model):
        raise unsupported(name, "it does not call attention through transformers' AttentionInterface")
