"""Why a stack that is better in the preferred metrics is not the plan: the terms of the objective that outweigh the gain."""

from advisor.planning.advice import Candidate
from advisor.planning.ranking import columns_of, evaluate, objective_terms
from advisor.profiles.request import Request

_OUTWEIGHED = {
    "quality": "the gain does not outweigh its quality loss",
    "risk": "it meets the limits less surely",
    "techniques": "too small a gain for one technique more",
}


def rank_words(chosen: Candidate, other: Candidate, request: Request, budget_gib: float) -> str:
    """How a stack without new violations ranks against the chosen plan, and why where its preferred metrics are no worse.

    `budget_gib` is the memory of a device that a stack may use.
    """
    lower = f"ranks lower for {request.prefer.value}"
    if chosen.violations:
        return lower
    columns = columns_of([chosen.metrics, other.metrics], [len(chosen.techniques), len(other.techniques)])
    terms = objective_terms(columns, evaluate(columns, request, budget_gib).probability, request)
    more = {name: float(values[1] - values[0]) for name in ("metrics", *_OUTWEIGHED) for values in [getattr(terms, name)]}
    if sum(more.values()) < 0:
        return "ranks above this plan when simulated; the search compares in closed form first"
    worst = max(_OUTWEIGHED, key=lambda name: more[name])
    return f"{lower}: {_OUTWEIGHED[worst]}" if more["metrics"] <= 0 < more[worst] else lower
