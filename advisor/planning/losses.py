"""What stacks lose in quality under one request: every technique is asked once."""

from dataclasses import dataclass, field

from advisor.backends.technique import QualityEffect, Technique, added
from advisor.planning.search import Stack
from advisor.profiles.evidence import Evidence
from advisor.profiles.request import Request


@dataclass(frozen=True, slots=True)
class Losses:
    """Losses by technique and by stack, remembered: tens of thousands of stacks are made of a few techniques."""

    evidence: Evidence
    request: Request
    _effects: dict[int, tuple[Technique, QualityEffect]] = field(default_factory=dict)
    _lossless: set[int] = field(default_factory=set)
    _sums: dict[tuple[int, ...], QualityEffect] = field(default_factory=dict)

    def of(self, stack: Stack) -> QualityEffect:
        """The losses of all techniques of a stack, added; the ranges as if independent."""
        lossy = tuple([key for key in map(id, stack.techniques) if key not in self._lossless])
        known = self._sums.get(lossy)
        return known if known is not None else self._sum(stack)

    def _sum(self, stack: Stack) -> QualityEffect:
        """Ask every technique, and remember the answer by those that lose something."""
        effects = {id(technique): self._effect(technique, stack) for technique in stack.techniques}
        self._lossless.update(key for key, effect in effects.items() if not effect.sources)
        lossy = {key: effect for key, effect in effects.items() if effect.sources}
        return self._sums.setdefault(tuple(lossy), added(list(lossy.values())))

    def _effect(self, technique: Technique, stack: Stack) -> QualityEffect:
        """By identity, which is quick: the technique is kept beside its effect, so that no other one takes its place."""
        known = self._effects.get(id(technique))
        if known is None:
            known = self._effects[id(technique)] = (technique, technique.quality(stack.deployment, self.evidence, self.request))
        return known[1]
