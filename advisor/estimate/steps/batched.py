"""Steps of many deployments at once: arrays with a number for each member, every distinct price asked for once."""

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from advisor.estimate.operators.types import Phase, StepPart
from advisor.estimate.steps.pricer import StepPricer, rounded

if TYPE_CHECKING:  # numpy takes a tenth of a second to import; the functions that need it do
    from numpy import float64, intp
    from numpy.typing import NDArray

    Numbers = NDArray[float64]
    Places = NDArray[intp]


class Family:
    """Deployments of one model that decode and are spread over devices alike; weights, attention and caches differ."""

    def __init__(self, pricers: Sequence[StepPricer]) -> None:
        self.first = pricers[0]
        self._pricers = pricers
        self._by_weights, self._weights = _distinct(pricers, [id(pricer.token_prices) for pricer in pricers])
        self._by_mixing, self._mixing = _distinct(pricers, [id(pricer.mixing_prices) for pricer in pricers])
        self._known: dict[tuple[StepPart, ...], Numbers] = {}
        drafts = [pricer.draft for pricer in pricers if pricer.draft is not None]
        self._draft = Family(drafts) if drafts else None

    def __len__(self) -> int:
        return len(self._pricers)

    def of(self, places: "Places") -> "Family":
        """Some of the members."""
        return Family([self._pricers[place] for place in places])

    def step_s(self, parts: tuple[StepPart, ...]) -> "Numbers":
        """Seconds of one step."""
        key = tuple([rounded(part) for part in parts])
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._price(key)
        return known

    def prefill_s(self, tokens: int, kv_tokens: int, sampled: bool = True) -> "Numbers":
        """Seconds of a step that prefills `tokens` of one prompt, `kv_tokens` in all after it; the draft's prefill included."""
        own = self.step_s((StepPart(Phase.PREFILL, 1, tokens, kv_tokens, sampled),))
        return own + self._draft.prefill_s(tokens, kv_tokens, False) if self._draft is not None else own

    def decode_s(self, sequences: int, context: float) -> "Numbers":
        """Seconds of a decoding step of `sequences` at mean length `context`, drafting included."""
        return self.step_s((self.first.decode_part(sequences, context),)) + self.draft_s(sequences, context)

    def draft_s(self, sequences: int, context: float) -> "Numbers | float":
        """Seconds that a draft model takes to propose its tokens; 0 without one."""
        if self._draft is None:
            return 0.0
        return self.first.deployment.decoding.draft_tokens * self._draft.decode_s(sequences, context)

    def _price(self, parts: tuple[StepPart, ...]) -> "Numbers":
        # Deferred: see above.
        import numpy as np

        prefills = any(part.phase == Phase.PREFILL for part in parts)
        rows, logit_rows = sum(part.rows for part in parts), sum(part.logit_rows for part in parts)
        tokens = [pricer.token_shares(rows, logit_rows, prefills) for pricer in self._by_weights]
        device_s = np.array([shares.total_s for shares in tokens])[self._weights]
        for part in parts:
            mixed = [pricer.mixing_shares(part, prefills).total_s for pricer in self._by_mixing]
            device_s = device_s + np.array(mixed)[self._mixing]
        fixed_s = self.first.fixed_s(rows, sum(part.sequences for part in parts), prefills)
        total: Numbers = device_s + fixed_s + np.maximum(self.first.launching_s - device_s, 0.0)
        return total


def _distinct(pricers: Sequence[StepPricer], keys: Sequence[Hashable]) -> "tuple[list[StepPricer], Places]":
    """One pricer for each key, and which of them every pricer goes by."""
    # Deferred: see above.
    import numpy as np

    first = dict(zip(reversed(keys), reversed(pricers), strict=True))
    places = {key: place for place, key in enumerate(first)}
    return list(first.values()), np.array([places[key] for key in keys])
