"""Quality losses of the stacks of one search. The loss of each technique is computed once: many stacks combine few techniques."""

from dataclasses import dataclass, field

from advisor.backends.technique import QualityEffect, Technique, added
from advisor.planning.search import Stack
from advisor.profiles.evidence import Evidence
from advisor.profiles.request import Request


@dataclass(frozen=True, slots=True)
class QualityTable:
    """Quality losses under one workload, cached by technique and by stack."""

    evidence: Evidence
    request: Request
    _effects: dict[int, tuple[Technique, QualityEffect]] = field(default_factory=dict)
    _lossless: set[int] = field(default_factory=set)
    _sums: dict[tuple[int, ...], QualityEffect] = field(default_factory=dict)

    def of(self, stack: Stack) -> QualityEffect:
        """The sum of the losses of a stack's techniques, in percent of perplexity; ranges are added as of independent variables."""
        lossy = tuple([key for key in map(id, stack.techniques) if key not in self._lossless])
        cached = self._sums.get(lossy)
        return cached if cached is not None else self._sum(stack)

    def _sum(self, stack: Stack) -> QualityEffect:
        effects = {id(technique): self._effect(technique, stack) for technique in stack.techniques}
        self._lossless.update(key for key, effect in effects.items() if not effect.sources)
        lossy = {key: effect for key, effect in effects.items() if effect.sources}
        return self._sums.setdefault(tuple(lossy), added(list(lossy.values())))

    def _effect(self, technique: Technique, stack: Stack) -> QualityEffect:
        # Keyed by identity, which is faster than hashing the technique; storing the technique prevents reuse of its id.
        cached = self._effects.get(id(technique))
        if cached is None:
            cached = self._effects[id(technique)] = (technique, technique.quality(stack.deployment, self.evidence, self.request))
        return cached[1]
