"""Step times of many deployments at once: arrays with an entry for each member, every distinct price computed once."""

from collections.abc import Hashable, Sequence

import numpy as np

from advisor.estimate.arrays import Indices, Numbers
from advisor.estimate.operators.types import Phase, StepPart
from advisor.estimate.steps.pricer import StepPricer, rounded


class Family:
    """Deployments of one model with equal decoding and parallelism; weights, attention and caches may differ.

    The methods return what those of `StepPricer` return, with an entry for each member.
    """

    def __init__(self, pricers: Sequence[StepPricer]) -> None:
        self.first = pricers[0]
        self._pricers = pricers
        self._by_weights, self._weights = _distinct(pricers, [id(pricer.token_prices) for pricer in pricers])
        self._by_mixing, self._mixing = _distinct(pricers, [id(pricer.mixing_prices) for pricer in pricers])
        self._cached: dict[tuple[StepPart, ...], Numbers] = {}
        drafts = [pricer.draft for pricer in pricers if pricer.draft is not None]
        self._draft = Family(drafts) if drafts else None

    def __len__(self) -> int:
        return len(self._pricers)

    def of(self, indices: Indices) -> "Family":
        """The members at these indices."""
        return Family([self._pricers[index] for index in indices])

    def step_s(self, parts: tuple[StepPart, ...]) -> Numbers:
        """Seconds of one step."""
        key = tuple([rounded(part) for part in parts])
        seconds = self._cached.get(key)
        if seconds is None:
            seconds = self._cached[key] = self._price(key)
        return seconds

    def prefill_s(self, tokens: int, kv_tokens: int, sampled: bool = True) -> Numbers:
        """Seconds of a step that prefills `tokens` of one prompt, after which the cache holds `kv_tokens`; a draft's prefill included."""
        own = self.step_s((StepPart(Phase.PREFILL, 1, tokens, kv_tokens, sampled),))
        return own + self._draft.prefill_s(tokens, kv_tokens, False) if self._draft is not None else own

    def decode_s(self, sequences: int, context: float) -> Numbers:
        """Seconds of a decoding step of `sequences` with a mean of `context` tokens, drafting included."""
        return self.step_s((self.first.decode_part(sequences, context),)) + self.draft_s(sequences, context)

    def draft_s(self, sequences: int, context: float) -> Numbers | float:
        """Seconds in which a draft model proposes its tokens; 0 without one."""
        if self._draft is None:
            return 0.0
        return self.first.deployment.decoding.draft_tokens * self._draft.decode_s(sequences, context)

    def _price(self, parts: tuple[StepPart, ...]) -> Numbers:
        prefills = any(part.phase == Phase.PREFILL for part in parts)
        rows, logit_rows = sum(part.rows for part in parts), sum(part.logit_rows for part in parts)
        tokens = [pricer.token_shares(rows, logit_rows, prefills) for pricer in self._by_weights]
        device_s = np.array([shares.total_s for shares in tokens])[self._weights]
        for part in parts:
            mixed = [pricer.mixing_shares(part, prefills).total_s for pricer in self._by_mixing]
            device_s = device_s + np.array(mixed)[self._mixing]
        fixed_s = self.first.fixed_s(rows, sum(part.sequences for part in parts), prefills)
        total: Numbers = device_s + fixed_s + np.maximum(self.first.host_launch_s - device_s, 0.0)
        return total


def _distinct(pricers: Sequence[StepPricer], keys: Sequence[Hashable]) -> tuple[list[StepPricer], Indices]:
    """One pricer for each distinct key, and for each pricer the index of that one."""
    first = dict(zip(reversed(keys), reversed(pricers), strict=True))
    index_of = {key: index for index, key in enumerate(first)}
    return list(first.values()), np.array([index_of[key] for key in keys])
