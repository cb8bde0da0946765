"""Block tables on the device: changes are collected on the host and copied together."""

from collections.abc import Sequence

import torch
from torch import Tensor

from advisor.backends.runtime.device.token_ring import upload


class BlockTables:
    """A row of block numbers for each sequence. Entries after a sequence's blocks are stale."""

    def __init__(self, rows: int, columns: int, device: torch.device) -> None:
        self._table = torch.zeros((rows, columns), dtype=torch.int32, device=device)
        self._changed: dict[tuple[int, int], int] = {}

    def put(self, row: int, first: int, blocks: Sequence[int]) -> None:
        """Set the entries of `row` from column `first` on to `blocks`."""
        self._changed.update({(row, first + index): block for index, block in enumerate(blocks)})

    def on_device(self) -> Tensor:
        """The table [rows, columns] int32 with every change so far; always the same tensor."""
        if self._changed:
            entries = [(row, index, block) for (row, index), block in self._changed.items()]
            rows, columns, blocks = upload(list(zip(*entries, strict=True)), self._table.device)
            self._table.index_put_((rows, columns), blocks.to(torch.int32))
            self._changed.clear()
        return self._table
