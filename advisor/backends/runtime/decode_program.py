"""Decoding steps without the host: forward pass, sampling, and the sampled tokens as next inputs, as one program.

On a GPU it is captured in a CUDA graph for each batch size; elsewhere the same code runs eagerly.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from advisor.backends.runtime.cache.pool import SequenceBlocks
from advisor.backends.runtime.device.decode_batch import DecodeBatch, DecodeEntry
from advisor.backends.runtime.model.attention_hook import Attends
from advisor.backends.runtime.model.probe import Forward
from advisor.backends.runtime.sampler import Sampler

BUCKETS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""Batch sizes for which graphs are captured; larger ones are multiples of 128."""
WARM_UPS = 2
"""Runs before a capture: they compile kernels and let libraries allocate their workspaces."""

DecodeAttention = Callable[[DecodeBatch, int, Sequence[SequenceBlocks]], Attends]
"""Makes the attention of the first `count` entries of a decode batch, of which the first hold those sequences."""


class DecodeProgram:
    """Runs decoding steps. `padded` rounds the batch size up to a bucket, as captured graphs need."""

    def __init__(self, forward: Forward, attention: DecodeAttention, sampler: Sampler, batch: DecodeBatch, *, padded: bool) -> None:
        self.forward = forward
        self.attention = attention
        self.sampler = sampler
        self.batch = batch
        self.padded = padded
        self.uncaptured_because: str | None = None
        self._graphs: dict[int, Any] = {}
        self._sequences = 0

    def set_batch(self, entries: Sequence[DecodeEntry], before: Tensor | None) -> None:
        """Set the sequences of the next step; `before` are the output tokens of the step before, on the device."""
        self._sequences = len(entries)
        self.batch.set_entries(entries, self._count, before)

    def run(self, caches: Sequence[SequenceBlocks]) -> tuple[Tensor, bool]:
        """Run a step: its output tokens [N], which the next run overwrites, and whether a graph was replayed."""
        graph = self._graphs.get(self._count)
        if graph is None:
            self._body(self._count, caches)
        else:
            graph.replay()
        self.batch.note_advanced()
        return self.batch.ids[: self._sequences], graph is not None

    def capture(self, most: int) -> None:
        """Capture a graph for every bucket up to that of `most` sequences, largest first, in one memory pool.

        Where capture fails, steps run eagerly and `uncaptured_because` has the reason.
        """
        memory = None
        try:
            for count in [size for size in buckets(bucket(most)) if size not in self._graphs][::-1]:
                self._warm_up(count)
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph, pool=memory):
                    self._body(count, ())
                memory = graph.pool()
                self._graphs[count] = graph
        except RuntimeError as error:  # what a capture raises depends on the operator
            self._graphs.clear()
            self.uncaptured_because = (str(error).splitlines() or [type(error).__name__])[0]

    @property
    def _count(self) -> int:
        """The batch size, with padding."""
        return bucket(self._sequences) if self.padded else self._sequences

    def _warm_up(self, count: int) -> None:
        """Let kernels compile and libraries allocate, on a separate stream, with a batch of padding."""
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # as torch has it
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UPS):
                self._body(count, ())
        torch.cuda.current_stream().wait_stream(aside)

    def _body(self, count: int, caches: Sequence[SequenceBlocks]) -> None:
        batch = self.batch
        positions = batch.positions[:count]
        logits = self.forward(self.attention(batch, count, caches), batch.ids[:count], positions, None)
        batch.advance(self.sampler.choose(logits, batch.numbers[:count], positions + 1), count)


def bucket(count: int) -> int:
    """The padded batch size of `count` sequences."""
    return next((size for size in BUCKETS if size >= count), -(-count // 128) * 128)


def buckets(largest: int) -> list[int]:
    """All buckets up to `largest`."""
    return [size for size in BUCKETS if size <= largest] + list(range(BUCKETS[-1] + 128, largest + 1, 128))
