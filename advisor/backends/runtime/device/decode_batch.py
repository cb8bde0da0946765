"""Device-side state of the decode batch, kept across steps for graph capture: entry i of every tensor is a sequence or padding."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from advisor.backends.runtime.device.token_ring import upload


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeEntry:
    """One sequence of the next decoding step."""

    number: int
    """Number of the sequence, which seeds its random draws."""
    row: int
    """Row of the sequence in the block tables."""
    position: int
    """Position of the input token in the sequence."""
    stored: int
    """Index of this token in the cache."""
    token: int | None
    """The input token; `None` where the host has not read it yet."""
    source: int = 0
    """Index of the input token in the output of the step before, for one that the host has not read yet."""


class DecodeBatch:
    """Tensors [M] that persist across steps, so that a captured graph reads and advances them without the host."""

    def __init__(self, most: int, device: torch.device) -> None:
        self.ids, self.positions, self.stored, self.rows, self.numbers, self.live = (
            torch.zeros(most, dtype=torch.int64, device=device) for _ in range(6)
        )
        self._expected: list[tuple[int, int, int, int]] = []
        self._count = 0

    def set_entries(self, entries: Sequence[DecodeEntry], count: int, before: Tensor | None) -> None:
        """Set the first `count` entries to the sequences of `entries` and padding; `before` are the output tokens of the step before.

        Nothing is copied where they equal the state after the last `advance`.
        """
        wanted = [(entry.number, entry.row, entry.position, entry.stored) for entry in entries]
        if wanted == self._expected and count == self._count:
            return
        device, padding = self.ids.device, [0] * (count - len(entries))
        columns = zip(
            *((entry.number, entry.row, entry.position, entry.stored, entry.token or 0, entry.source) for entry in entries), strict=True
        )
        is_known = [1 if entry.token is not None else 0 for entry in entries]
        packet = upload([[*column, *padding] for column in columns] + [[*is_known, *padding]] + [[1] * len(entries) + padding], device)
        numbers, rows, positions, stored, given, sources, has_token, live = packet
        if before is not None and not all(is_known):
            given = torch.where(has_token.bool(), given, before.index_select(0, sources))
        for tensor, value in (
            (self.numbers, numbers), (self.rows, rows), (self.positions, positions), (self.stored, stored), (self.ids, given),
            (self.live, live),
        ):  # fmt: skip
            tensor[:count].copy_(value)
        self._expected, self._count = wanted, count

    def advance(self, tokens: Tensor, count: int) -> None:
        """On the device: the output token of every sequence becomes its next input token, at the next position."""
        self.ids[:count].copy_(tokens)
        self.positions[:count].add_(self.live[:count])
        self.stored[:count].add_(self.live[:count])

    def note_advanced(self) -> None:
        """The same for the host's copy of the entries."""
        self._expected = [(number, row, position + 1, stored + 1) for number, row, position, stored in self._expected]
