"""Runs a `transformers` model over flattened rows of several sequences, its attention answered from our pool."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from advisor.backends.runtime.attention import NAME, Attending, Feed, Recorder, Step, attending, register, unsupported
from advisor.backends.runtime.pool import Heads, Pool


class Runner:
    """A model and its pool. Use inside `plugged(model)`."""

    def __init__(self, model: Any, pool: Pool, implementation: str) -> None:
        self.model = model
        self.pool = pool
        self.implementation = implementation
        self._keeps_rows = "logits_to_keep" in inspect.signature(model.forward).parameters

    def run(self, feeds: Sequence[Feed], wanted: Sequence[int], grouped: int = 0) -> Tensor:
        """Feed the tokens, move the sequences on, and return the logits of the `wanted` rows: [R, V].

        The first `grouped` feeds have a past and few new tokens each.
        """
        step = Step(self.pool, feeds, grouped, self.implementation)
        rows = torch.tensor(wanted, dtype=torch.int64, device=self.pool.device)
        logits = _forward(self.model, step, step.ids, step.positions, rows if self._keeps_rows else None)
        for feed in feeds:
            feed.held.tokens += len(feed.tokens)
        return logits if self._keeps_rows else logits.index_select(0, rows)


@contextmanager
def plugged(model: Any) -> Iterator[None]:
    """Route the model's attention to ours for the duration. Raises `AdvisorError` for models that do not let us."""
    _refuse_unsuitable(model)
    register()
    before = model.config._attn_implementation
    model.set_attn_implementation(NAME)
    if model.config._attn_implementation != NAME:
        raise unsupported(type(model).__name__, "it does not use transformers' AttentionInterface")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def cache_shapes(model: Any) -> tuple[Heads, ...]:
    """What each layer caches, found by running one token through the plugged model."""
    recorder = Recorder()
    ids = torch.zeros((1, 1), dtype=torch.int64, device=model.device)
    with torch.inference_mode():
        _forward(model, recorder, ids, ids, None)
    layers = model.config.get_text_config().num_hidden_layers
    if recorder.calls != layers or sorted(recorder.heads) != list(range(layers)):
        raise unsupported(type(model).__name__, f"{recorder.calls} calls of attention in {layers} layers come through the interface")
    return tuple(recorder.heads[layer] for layer in range(layers))


def _forward(model: Any, step: Attending, ids: Tensor, positions: Tensor, rows: Tensor | None) -> Tensor:
    """Logits [R, V] of `rows`, or of all rows."""
    keep = {} if rows is None else {"logits_to_keep": rows}
    with attending(step):
        out = model(input_ids=ids, position_ids=positions, use_cache=False, return_dict=True, **keep)
    logits: Tensor = out.logits[0]
    return logits


def _refuse_unsuitable(model: Any) -> None:
    """Raise for models whose state is not keys and values, or whose attention is not plain causal."""
    name, config = type(model).__name__, model.config.get_text_config()
    if getattr(model.config, "is_encoder_decoder", False):
        raise unsupported(name, "it is an encoder-decoder model")
    if getattr(model, "_is_stateful", False):
        raise unsupported(name, "it keeps a recurrent state besides keys and values")
    if getattr(config, "num_kv_shared_layers", None):
        raise unsupported(name, "its layers share caches")
    odd = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if odd:
        raise unsupported(name, f"it has layers of kind {', '.join(sorted(odd))}")
    if not model._can_set_attn_implementation():
        raise unsupported(name, "it does not call attention through transformers' AttentionInterface")
