"""Relative error of each head's attention output under a session's cache format, eviction or attention mask.

The model runs exactly; at every layer its queries, keys and values are also given to each altered session's attention step, in single
precision and with a cache of its own. Errors of earlier layers do not propagate.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace

import torch
from torch import Tensor

from advisor.backends.deployment import Decoding
from advisor.backends.model.loaded_model import LoadedModel
from advisor.backends.runtime.attention.step import AttentionStep, SequenceInput
from advisor.backends.runtime.cache.pool import Pool
from advisor.backends.runtime.device.memory import memory_errors
from advisor.backends.runtime.model.attention_hook import Options
from advisor.backends.runtime.model.forward import Prepared, prepared
from advisor.backends.runtime.prepare import cache_config_of, retention_of, visibility_of
from advisor.profiles.quality import HeadError


def attention_errors(
    session: LoadedModel, altered: Mapping[str, LoadedModel], windows: Tensor, on_window: Callable[[int, int], None]
) -> dict[str, tuple[HeadError, ...]]:
    """‖altered − exact‖ / ‖exact‖ of every head's outputs on the token ids `windows` [W, T], by the name of the altered session.

    `on_window` is called with the windows done and their number. Raises `AdvisorError` for models that the runtime cannot run.
    """
    with ExitStack() as undo:
        undo.enter_context(memory_errors("measuring attention"))
        ready = prepared(session.model, undo, max_tokens=windows.shape[1])
        undo.enter_context(torch.inference_mode())
        length = windows.shape[1]
        watch = _Watch(_Passage(session, ready, length), {name: _Passage(other, ready, length) for name, other in altered.items()})
        positions = torch.arange(length, device=session.device)
        for done, window in enumerate(windows):
            ready.forward(watch, window.to(session.device), positions, positions[-1:])
            on_window(done + 1, len(windows))
        return {name: watch.errors(name) for name in altered}


class _Passage:
    """One sequence through the attention of a session, layer by layer, starting with an empty cache."""

    def __init__(self, session: LoadedModel, ready: Prepared, length: int) -> None:
        alone = replace(
            session,
            max_tokens=length,
            kv=replace(session.kv, prefix_reuse=False),
            decoding=Decoding(),
            batching=replace(session.batching, max_sequences=1),
            kv_capacity_tokens=None,
        )
        retention = retention_of(alone, ready.windows)
        cache = cache_config_of(alone, retention)
        pool = Pool(ready.heads, cache, torch.float32, session.device)
        self._blocks = pool.open()
        pool.allocate(self._blocks, length)
        visibility, chunk = visibility_of(alone, ready, retention), cache.page_tokens if cache.has_ring else length
        self._chunks = [slice(start, min(start + chunk, length)) for start in range(0, length, chunk)]
        self._steps = []
        for tokens in self._chunks:
            self._blocks.tokens = tokens.start
            inputs = [SequenceInput(self._blocks, [0] * (tokens.stop - tokens.start))]
            self._steps.append(AttentionStep(pool, inputs, 1, "eager", visibility))

    def attend(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor, options: Options) -> Tensor:
        """Attention outputs [T, H, E] of queries, keys and values [T, H, D], with the cache read back as in decoding."""
        parts = []
        for tokens, step in zip(self._chunks, self._steps, strict=True):
            self._blocks.tokens = tokens.start
            parts.append(step.attend_rows(layer, queries[tokens], keys[tokens], values[tokens], options))
        return torch.cat(parts)


class _Watch:
    """Computes a model's attention exactly, and accumulates the squared errors of the altered sessions."""

    def __init__(self, exact: _Passage, altered: Mapping[str, _Passage]) -> None:
        self._exact = exact
        self._altered = altered
        self._squares: dict[tuple[str, int], Tensor] = {}

    def attend_rows(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor, options: Options) -> Tensor:
        """See `Attends`."""
        wide = queries.float(), keys.float(), values.float()
        exact = self._exact.attend(layer, *wide, options)
        self._add("", layer, exact)
        for name, passage in self._altered.items():
            self._add(name, layer, passage.attend(layer, *wide, options) - exact)
        return exact.to(queries.dtype)

    def errors(self, name: str) -> tuple[HeadError, ...]:
        """Relative errors of the named session: every head of every layer, in order."""
        errors = []
        for layer in sorted(layer for kind, layer in self._squares if kind == name):
            exact = self._squares["", layer].clamp(min=torch.finfo(torch.float64).tiny)
            shares = (self._squares[name, layer] / exact).sqrt().tolist()
            errors += [HeadError(layer=layer, head=head, error=share) for head, share in enumerate(shares)]
        return tuple(errors)

    def _add(self, name: str, layer: int, rows: Tensor) -> None:
        """Add the squares of `rows` [T, H, E], summed for each head."""
        squares = rows.double().square().sum((0, 2))
        self._squares[name, layer] = self._squares.get((name, layer), torch.zeros_like(squares)) + squares
