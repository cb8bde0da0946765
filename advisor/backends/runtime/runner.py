"""Runs a model over the flattened token rows of several sequences, with attention over the pool."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from advisor.backends.model.tuned_attention import TunedAttention
from advisor.backends.runtime.attention.step import AttentionStep, SequenceInput
from advisor.backends.runtime.attention.visibility import PLAIN, Visibility
from advisor.backends.runtime.cache.pool import Pool, SequenceBlocks
from advisor.backends.runtime.device.decode_batch import DecodeBatch
from advisor.backends.runtime.device.token_ring import upload
from advisor.backends.runtime.model.attention_hook import Attends
from advisor.backends.runtime.model.probe import Forward


@dataclass(frozen=True, slots=True)
class DeviceTokens:
    """Input tokens that the host has not read yet, and their rows [C] in a step."""

    rows: Tensor
    tokens: Tensor


class Runner:
    """A model's forward pass and its pool. With `kernels`, the cache is read through the Triton kernels."""

    def __init__(
        self,
        forward: Forward,
        pool: Pool,
        implementation: str,
        visibility: Visibility = PLAIN,
        autotuner: TunedAttention | None = None,
        *,
        kernels: bool = False,
    ) -> None:
        self.forward = forward
        self.pool = pool
        self.implementation = implementation
        self.visibility = visibility
        self.autotuner = autotuner
        self.kernels = kernels
        self._step = _kernel_step() if kernels else AttentionStep

    def run(self, inputs: Sequence[SequenceInput], rows: Sequence[int], n_decode: int = 0, carried: DeviceTokens | None = None) -> Tensor:
        """Run one step on the tokens of `inputs`, advance their sequences, and return the logits [R, V] of `rows`.

        The first `n_decode` inputs are decoding sequences: cached tokens and few new ones each.
        """
        step = self._step(self.pool, inputs, n_decode, self.implementation, self.visibility, self.autotuner)
        if carried is not None:
            step.ids.index_copy_(0, carried.rows, carried.tokens)
        logits = self.forward(step, step.ids, step.positions, upload(rows, self.pool.device))
        for entry in inputs:
            entry.cache.tokens += len(entry.tokens)
        return logits

    def decoding(self, batch: DecodeBatch, count: int, caches: Sequence[SequenceBlocks]) -> Attends:
        """The attention of one new token for the first `count` entries of `batch`: the sequences of `caches`, then padding."""
        if not self.kernels:
            return self._step(
                self.pool, [SequenceInput(cache, (0,)) for cache in caches], count, self.implementation, self.visibility, self.autotuner
            )
        from advisor.backends.runtime.attention.kernels import DecodeBatchAttention  # loads Triton

        return DecodeBatchAttention(self.pool, self.visibility, batch, count)


def _kernel_step() -> type[AttentionStep]:
    from advisor.backends.runtime.attention.kernels import KernelStep  # loads Triton

    return KernelStep
