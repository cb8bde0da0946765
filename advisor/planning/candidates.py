"""A candidate: a stack with its metrics, compared with the limits of a request."""

import hashlib
from collections.abc import Sequence

from advisor.backends.techniques import options_of
from advisor.planning.advice import Candidate
from advisor.planning.pricing import PricedStacks
from advisor.planning.ranking import Verdicts, columns_of, evaluate, order
from advisor.planning.search import Stack
from advisor.planning.violations import status, violations_of
from advisor.profiles.metrics import Metrics
from advisor.profiles.request import Request


def candidate_of(stack: Stack, metrics: Metrics, request: Request, budget_gib: float) -> Candidate:
    """Compare a stack with the limits of a request. `budget_gib` is the memory of a device that it may use."""
    verdicts = evaluate(columns_of([metrics], [len(stack.techniques)]), request, budget_gib)
    return _candidate(stack, candidate_id(stack), metrics, verdicts, 0, request, budget_gib)


def closed_form_candidate(priced: PricedStacks, verdicts: Verdicts, index: int, request: Request, budget_gib: float) -> Candidate:
    """The candidate at an index of a search, with its metrics in closed form."""
    stack = priced.stacks[index]
    if index not in priced.rows:
        priced.rows[index] = candidate_id(stack), priced.metrics(index)
    id, metrics = priced.rows[index]
    return _candidate(stack, id, metrics, verdicts, index, request, budget_gib)


def _candidate(
    stack: Stack, id: str, metrics: Metrics, verdicts: Verdicts, index: int, request: Request, budget_gib: float
) -> Candidate:  # fmt: skip
    violations = violations_of(metrics, request.limits, budget_gib)
    probabilities = tuple((limit, float(column[index])) for limit, column in verdicts.probabilities.items())
    verdict = status(float(verdicts.probability[index]), violations)
    return Candidate(id, stack.techniques, stack.deployment, metrics, verdict, violations, probabilities)


def candidate_id(stack: Stack) -> str:
    """Eight hex digits of the SHA-256 over techniques, options and parallel layout."""
    parts = [f"{technique.name}{sorted(options_of(technique).items())}" for technique in stack.techniques]
    return hashlib.sha256(repr((parts, stack.deployment.parallel)).encode()).hexdigest()[:8]


def stack_of(candidate: Candidate) -> Stack:
    """The stack of a candidate."""
    return Stack(candidate.techniques, candidate.deployment)


def best_of(candidates: Sequence[Candidate], request: Request, budget_gib: float) -> Candidate:
    """The candidate that ranks first."""
    return order(candidates, request, budget_gib)[0]
