"""Runs a model over flattened rows of several sequences, its attention answered from our pool."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from advisor.backends.model.tuned_attention import TunedAttention
from advisor.backends.runtime.attention.step import AttentionStep, SequenceInput
from advisor.backends.runtime.attention.visibility import PLAIN, Visibility
from advisor.backends.runtime.cache.pool import Pool, SequenceBlocks
from advisor.backends.runtime.device.decode_batch import Lanes
from advisor.backends.runtime.device.token_ring import upload
from advisor.backends.runtime.model.attention_hook import Attends
from advisor.backends.runtime.model.forward import Forward


@dataclass(frozen=True, slots=True)
class Carried:
    """Tokens that the host does not know, and the rows [C] of a step that they are fed in."""

    rows: Tensor
    tokens: Tensor


class Runner:
    """A model's forward pass and its pool; `kernels` reads the cache through the kernels for it."""

    def __init__(
        self,
        forward: Forward,
        pool: Pool,
        implementation: str,
        sight: Visibility = PLAIN,
        autotuner: TunedAttention | None = None,
        *,
        kernels: bool = False,
    ) -> None:
        self.forward = forward
        self.pool = pool
        self.implementation = implementation
        self.sight = sight
        self.autotuner = autotuner
        self.kernels = kernels
        self._step = _kernel_step() if kernels else AttentionStep

    def run(self, feeds: Sequence[SequenceInput], wanted: Sequence[int], grouped: int = 0, carried: Carried | None = None) -> Tensor:
        """Feed the tokens, move the sequences on, and return the logits of the `wanted` rows: [R, V].

        The first `grouped` feeds have a past and few new tokens each.
        """
        step = self._step(self.pool, feeds, grouped, self.implementation, self.sight, self.autotuner)
        if carried is not None:
            step.ids.index_copy_(0, carried.rows, carried.tokens)
        logits = self.forward(step, step.ids, step.positions, upload(wanted, self.pool.device))
        for feed in feeds:
            feed.held.tokens += len(feed.tokens)
        return logits

    def decoding(self, lanes: Lanes, count: int, held: Sequence[SequenceBlocks]) -> Attends:
        """What answers attention for one new token in each of the first `count` lanes, which hold those sequences and padding."""
        if not self.kernels:
            return self._step(
                self.pool, [SequenceInput(each, (0,)) for each in held], count, self.implementation, self.sight, self.autotuner
            )
        from advisor.backends.runtime.attention.kernels import LaneAttention  # loads Triton

        return LaneAttention(self.pool, self.sight, lanes, count)


def _kernel_step() -> type[AttentionStep]:
    from advisor.backends.runtime.attention.kernels import KernelStep  # loads Triton

    return KernelStep
