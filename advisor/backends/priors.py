"""Published effects turned into what a technique answers."""

import math
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


def forgetting_prior(evidence: Evidence, model: ModelSpec, effect: str, *, reach: int, longest: int) -> QualityEffect:
    """The published loss of `effect` for a reach of so many tokens: that loss as the worst, nothing as the best.

    What was published are sequences of which most was out of reach. The first `reach` tokens of the longest sequence miss nothing:
    the log-likelihood that is lost is taken to be in proportion to the share of the others.
    """
    prior = quality_prior(evidence, model, effect)
    share = max(1 - reach / longest, 0.0)
    return replace(prior, loss_pct=100 * math.expm1(share * math.log1p(prior.loss_pct / 100)), low_pct=0.0)


@lru_cache(maxsize=64)
def acceptance_prior(evidence: Evidence, effect: str) -> Prior:
    """The published share of drafted positions that is accepted."""
    prior = evidence.acceptance(effect)
    assert prior is not None, f"no published acceptance for {effect}"
    return prior
