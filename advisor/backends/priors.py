"""Published effects turned into what a technique answers."""

from dataclasses import replace
from functools import lru_cache

from advisor.backends.technique import QualityEffect
from advisor.profiles.evidence import Evidence, Prior
from advisor.profiles.models import ModelSpec


def quality_prior(evidence: Evidence, model: ModelSpec, effect: str) -> QualityEffect:
    """The published loss of `effect` on models of this size, trained on as many tokens."""
    prior = evidence.quality(effect, model.parameters, model=model.id)
    assert prior is not None, f"no published quality for {effect}"
    return QualityEffect(prior.middle, prior.low, prior.high, prior.sources, prior.tasks)


def forgetting_prior(evidence: Evidence, model: ModelSpec, effect: str) -> QualityEffect:
    """The published loss of `effect` as the worst, nothing as the best.

    What was published are streams many times as long as what is kept; a sequence that is hardly longer loses next to nothing.
    """
    return replace(quality_prior(evidence, model, effect), low_pct=0.0)


@lru_cache(maxsize=64)
def acceptance_prior(evidence: Evidence, effect: str) -> Prior:
    """The published share of drafted positions that is accepted."""
    prior = evidence.acceptance(effect)
    assert prior is not None, f"no published acceptance for {effect}"
    return prior
