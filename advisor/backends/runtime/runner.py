"""Runs a model over flattened rows of several sequences, its attention answered from our pool."""

from collections.abc import Sequence

import torch
from torch import Tensor

from advisor.backends.runtime.attention import PLAIN, Feed, Sight, Step
from advisor.backends.runtime.forward import Forward
from advisor.backends.runtime.pool import Pool


class Runner:
    """A model's forward pass and its pool."""

    def __init__(self, forward: Forward, pool: Pool, implementation: str, sight: Sight = PLAIN) -> None:
        self.forward = forward
        self.pool = pool
        self.implementation = implementation
        self.sight = sight

    def run(self, feeds: Sequence[Feed], wanted: Sequence[int], grouped: int = 0) -> Tensor:
        """Feed the tokens, move the sequences on, and return the logits of the `wanted` rows: [R, V].

        The first `grouped` feeds have a past and few new tokens each.
        """
        step = Step(self.pool, feeds, grouped, self.implementation, self.sight)
        rows = torch.tensor(wanted, dtype=torch.int64, device=self.pool.device)
        logits = self.forward(step, step.ids, step.positions, rows)
        for feed in feeds:
            feed.held.tokens += len(feed.tokens)
        return logits
