"""Attention of a few short sequences by its definition, for comparing forward passes of one model. Knows no pool and no step."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from advisor.backends.runtime.model.attention_hook import Attends, Options
from advisor.kernels.attention.paged_attention import eager_attention, widen_mask

ANCHORS = 4
"""Places between the first and the last position where the tokens of a probe stand."""
NEIGHBOURS = 3
"""Tokens of a probe side by side: alone in its window, a token attends to itself whatever its query is."""


class Forward(Protocol):
    """Computes logits."""

    def __call__(self, step: Attends, ids: Tensor, positions: Tensor, rows: Tensor | None) -> Tensor:
        """Logits [R, V] of `rows` [R] (default: all) of tokens `ids` [T] at `positions` [T]; `step` computes the attention."""


@dataclass(frozen=True, slots=True)
class ProbeRows:
    """Rows of one step: the sequence [T], token id [T] and position [T] of each."""

    sequences: Sequence[int]
    ids: Sequence[int]
    positions: Sequence[int]


@dataclass(slots=True)
class ProbeAttention:
    """Attention of the sequences of a probe over all keys and values of earlier steps. One object for each probe."""

    device: torch.device
    _rows: list[Tensor] = field(default_factory=list)
    """Sequence and position [2, T] of every row, by step."""
    _stored: dict[int, list[tuple[Tensor, Tensor]]] = field(default_factory=dict)

    def run(self, forward: Forward, rows: ProbeRows) -> Tensor:
        """Logits [T, V] of the next step."""
        self._rows.append(torch.tensor([rows.sequences, rows.positions], device=self.device))
        ids = torch.tensor(rows.ids, device=self.device)
        return forward(self, ids, self._rows[-1][1], torch.arange(len(ids), device=self.device))

    def attend_rows(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor, options: Options) -> Tensor:
        """See `Attends`."""
        stored = self._stored.setdefault(layer, [])
        stored.append((keys, values))
        key, value = (torch.cat(parts).transpose(0, 1).unsqueeze(0).contiguous() for parts in zip(*stored, strict=True))
        mask = widen_mask(self._mask(options.window, queries.dtype), queries.shape[1] // keys.shape[1])
        return eager_attention(queries.unsqueeze(0), key, value, mask, scale=options.scale, softcap=options.softcap, sinks=options.sinks)[0]

    def _mask(self, window: int | None, dtype: torch.dtype) -> Tensor:
        """[1, T, L]: zero where a row attends to a key of its sequence."""
        (sequence, position), (of_key, key_position) = self._rows[-1].unsqueeze(2), torch.cat(self._rows, 1).unsqueeze(1)
        seen = (of_key == sequence) & (key_position <= position)
        if window is not None:
            seen &= key_position > position - window
        mask = torch.zeros(seen.shape, dtype=dtype, device=self.device)
        return mask.masked_fill_(~seen, torch.finfo(dtype).min).unsqueeze(0)


def probe_ids(count: Tensor, model: Any) -> Tensor:
    """Token ids [T] for a probe from the numbers 0 to T − 1 [T], spread over the model's vocabulary."""
    ids: Tensor = (count * 37 + 11) % model.config.get_text_config().vocab_size
    return ids


def spread_positions(max_tokens: int, anchors: int = ANCHORS) -> list[int]:
    """Ascending positions up to `max_tokens` − 1: some side by side at each anchor, and anchors each as many times the one before.

    >>> spread_positions(1000)
    [0, 7, 8, 9, 97, 98, 99, 997, 998, 999]
    """
    ends = {round(max_tokens ** (step / (anchors - 1))) - 1 for step in range(anchors)} | {max_tokens - 1}
    return sorted({max(end - before, 0) for end in ends for before in range(NEIGHBOURS)})


def probe_rows(model: Any, positions: Sequence[int]) -> ProbeRows:
    """Tokens of one sequence at these positions."""
    ids = probe_ids(torch.arange(len(positions)), model).tolist()
    return ProbeRows([0] * len(positions), ids, positions)


def probe_logits(forward: Forward, model: Any, max_tokens: int) -> Tensor:
    """Logits [T, V] of a few tokens of one sequence, at positions up to `max_tokens` − 1."""
    return ProbeAttention(model.device).run(forward, probe_rows(model, spread_positions(max_tokens)))


def difference(ours: Tensor, theirs: Tensor, tolerance: float, rows_allowed: float = 0.0) -> float | None:
    """By what part of their norm logits [T, V] differ from those of another forward pass; `None` where rounding explains it.

    A row differs by more than `tolerance` of its norm, or by a clear choice of another token. `rows_allowed` is the share of rows that may.
    """
    ours, theirs = ours.float(), theirs.float()
    error = (ours - theirs).norm(dim=-1) / theirs.norm(dim=-1).clamp_min(1e-30)
    margin = theirs.amax(-1) - theirs.gather(-1, ours.argmax(-1, keepdim=True))[:, 0]
    wrong = ~(error <= tolerance) | (margin > 2 * tolerance * theirs.abs().amax(-1))
    if float(wrong.float().mean()) <= rows_allowed:
        return None
    return float((ours - theirs).norm() / theirs.norm().clamp_min(1e-30))
