"""How far each head's attention is from exact when its keys and values go through a session's cache, or its sight is narrowed.

The model runs exactly; at every layer its queries, keys and values are also given to each session's own attention step, in single
precision, with a cache of its own. So whatever a technique does to cache or sight shows, and nothing else.
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
from advisor.backends.runtime.prepare import kept_of, room_of, sight_of
from advisor.profiles.quality import HeadError


def attention_errors(
    session: LoadedModel, altered: Mapping[str, LoadedModel], stretches: Tensor, on_stretch: Callable[[int, int], None]
) -> dict[str, tuple[HeadError, ...]]:
    """‖altered − exact‖ / ‖exact‖ of every head's outputs on the tokens [W, T], by the name of the altered session.

    Works on any model that the runtime runs, trained or not. Raises `AdvisorError` for the others.
    """
    with ExitStack() as undo:
        undo.enter_context(memory_errors("measuring attention"))
        ready = prepared(session.model, undo)
        undo.enter_context(torch.inference_mode())
        length = stretches.shape[1]
        watch = _Watch(_Passage(session, ready, length), {name: _Passage(each, ready, length) for name, each in altered.items()})
        places = torch.arange(length, device=session.device)
        for done, stretch in enumerate(stretches):
            ready.forward(watch, stretch.to(session.device), places, places[-1:])
            on_stretch(done + 1, len(stretches))
        return {name: watch.errors(name) for name in altered}


class _Passage:
    """One sequence through the attention of a session, from an empty cache, for one layer after the other."""

    def __init__(self, session: LoadedModel, ready: Prepared, length: int) -> None:
        alone = replace(
            session,
            max_tokens=length,
            kv=replace(session.kv, prefix_reuse=False),
            decoding=Decoding(),
            batching=replace(session.batching, max_sequences=1),
            kv_capacity_tokens=None,
        )
        kept = kept_of(alone, ready.windows)
        room = room_of(alone, kept)
        pool = Pool(ready.heads, room, torch.float32, session.device)
        self._held = pool.open()
        pool.allocate(self._held, length)
        sight, piece = sight_of(alone, ready, kept), room.page_tokens if room.has_ring else length
        self._pieces = [slice(start, min(start + piece, length)) for start in range(0, length, piece)]
        self._steps = []
        for tokens in self._pieces:
            self._held.tokens = tokens.start
            self._steps.append(AttentionStep(pool, [SequenceInput(self._held, [0] * (tokens.stop - tokens.start))], 1, "eager", sight))

    def attend(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor, options: Options) -> Tensor:
        """[T, H, D] to [T, H, E], each token finding its past as in decoding."""
        parts = []
        for tokens, step in zip(self._pieces, self._steps, strict=True):
            self._held.tokens = tokens.start
            parts.append(step.attend_rows(layer, queries[tokens], keys[tokens], values[tokens], options))
        return torch.cat(parts)


class _Watch:
    """Answers a model's attention exactly, and adds up what others would have answered."""

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
        """Every head of every layer, in order."""
        found = []
        for layer in sorted(layer for kind, layer in self._squares if kind == name):
            whole = self._squares["", layer].clamp(min=torch.finfo(torch.float64).tiny)
            shares = (self._squares[name, layer] / whole).sqrt().tolist()
            found += [HeadError(layer=layer, head=head, error=share) for head, share in enumerate(shares)]
        return tuple(found)

    def _add(self, name: str, layer: int, rows: Tensor) -> None:
        """Squares of [T, H, E] summed for each head."""
        squares = rows.double().square().sum((0, 2))
        self._squares[name, layer] = self._squares.get((name, layer), torch.zeros_like(squares)) + squares
