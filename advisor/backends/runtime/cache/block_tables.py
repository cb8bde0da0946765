"""Which blocks each sequence holds, on the device: changes are gathered on the host and sent together."""

from collections.abc import Sequence

import torch
from torch import Tensor

from advisor.backends.runtime.device.token_ring import upload


class BlockTables:
    """A row of block numbers for each sequence. What lies beyond a sequence's blocks is left over from earlier ones."""

    def __init__(self, rows: int, columns: int, device: torch.device) -> None:
        self._table = torch.zeros((rows, columns), dtype=torch.int32, device=device)
        self._changed: dict[tuple[int, int], int] = {}

    def put(self, row: int, first: int, blocks: Sequence[int]) -> None:
        """From place `first` on, the sequence at `row` holds these blocks."""
        self._changed.update({(row, first + index): block for index, block in enumerate(blocks)})

    def on_device(self) -> Tensor:
        """The table [rows, columns] int32 with every change so far; always the same memory."""
        if self._changed:
            entries = [(row, index, block) for (row, index), block in self._changed.items()]
            rows, columns, blocks = upload(list(zip(*entries, strict=True)), self._table.device)
            self._table.index_put_((rows, columns), blocks.to(torch.int32))
            self._changed.clear()
        return self._table
