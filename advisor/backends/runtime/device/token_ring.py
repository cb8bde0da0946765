"""Copies sampled tokens from the device to the host: at once on a CPU, asynchronously with an event on a GPU."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

SLOTS = 3
"""Steps whose tokens may be in transit: the one that is read, the one that runs, and the one that is being launched."""


@dataclass(frozen=True, slots=True)
class TokenCopy:
    """Tokens that are being copied to the host."""

    tokens: Tensor
    event: Any = None

    def wait(self) -> list[int]:
        """Wait for the copy and return the tokens."""
        if self.event is not None:
            self.event.synchronize()
        return [int(token) for token in self.tokens.tolist()]


class TokenRing:
    """A ring of pinned buffers; each is read before it is reused."""

    def __init__(self, rows: int, device: torch.device) -> None:
        self._next = 0
        self._slots: list[Tensor] = []
        if device.type == "cuda":
            self._slots = [torch.empty(rows, dtype=torch.int64, pin_memory=True) for _ in range(SLOTS)]

    def put(self, tokens: Tensor) -> TokenCopy:
        """Start copying `tokens` [R]; they may be overwritten by later work of the device."""
        if not self._slots:
            return TokenCopy(tokens.clone())
        slot = self._slots[self._next % SLOTS][: len(tokens)]
        self._next += 1
        slot.copy_(tokens, non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]  # as torch has it
        event.record()
        return TokenCopy(slot, event)


def upload(numbers: Sequence[int] | Sequence[Sequence[int]], device: torch.device, dtype: torch.dtype = torch.int64) -> Tensor:
    """Numbers as a tensor on the device, without waiting for it."""
    if device.type != "cuda":
        return torch.tensor(numbers, dtype=dtype, device=device)
    return torch.tensor(numbers, dtype=dtype, pin_memory=True).to(device, non_blocking=True)
