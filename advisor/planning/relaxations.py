"""Relaxations of an infeasible request: for each limit the smallest change of it alone with which a plan is feasible."""

from collections.abc import Callable, Sequence

from advisor.backends.deployment import Deployment
from advisor.estimate.uncertainty.probability import joint_probability, limit_met_with
from advisor.planning.advice import LIKELY, Candidate, Relaxation, Status, Violation
from advisor.planning.candidates import stack_of
from advisor.planning.planner import Planner
from advisor.planning.pricing import PricedStacks
from advisor.planning.ranking import Verdicts, representatives
from advisor.planning.search import Stack, apply_on_paper, baselines
from advisor.profiles.formats import GIB
from advisor.profiles.request import Load, Request, Workload
from advisor.quantities.limits import MEMORY, METRIC_OF

MOST_DEVICES = 8
"""Most devices of one machine; more are a cluster."""
MOST_LIKELY = 0.99
"""Highest probability for one limit alone: beyond it, the limit would be far from the predicted value."""
RATE_BISECTIONS = 5
"""Bisections in the search for the highest arrival rate."""


def relaxations(planner: Planner, priced: PricedStacks, verdicts: Verdicts, chosen: Candidate, request: Request) -> list[Relaxation]:
    """The relaxations of an infeasible request: its limits one by one, then the arrival rate, the workload and the devices."""
    representative = [planner.simulate(priced.stacks[index], request) for index in representatives(priced.columns, verdicts.order, None)]
    slower = _slower_arrivals(planner, chosen, request)
    loosened = _loosened_limits(planner, priced, verdicts, [chosen, *representative], request)
    if slower:
        loosened = [relaxation for relaxation in loosened if relaxation.limit != "request_rate_per_s"]
    return (
        loosened
        + slower
        + _smaller_workloads(planner, [chosen, *representative], chosen, request)
        + _more_devices(planner, chosen, request)
    )


def _loosened_limits(
    planner: Planner, priced: PricedStacks, verdicts: Verdicts, simulated: Sequence[Candidate], request: Request
) -> list[Relaxation]:  # fmt: skip
    """For each limit, the stack that violates only it, and by least: of those already simulated, and of all in closed form."""
    relaxed = []
    for limit in verdicts.missed:
        index = verdicts.misses_only(limit)
        candidates = [*simulated, *([planner.simulate(priced.stacks[index], request)] if index is not None else [])]
        only = [candidate for candidate in candidates if [violation.limit for violation in candidate.violations] == [limit]]
        if not only:
            continue
        candidate = min(only, key=lambda candidate: candidate.violations[0].ratio)
        (violation,) = candidate.violations
        relaxed.append(Relaxation(limit, violation.bound, violation.predicted.value, candidate, _likely(violation, candidate)))
    return relaxed


def _likely(violation: Violation, candidate: Candidate) -> float:
    """The limit at which all limits are met with probability `LIKELY`; this one alone where that would need more than `MOST_LIKELY`."""
    others = joint_probability({limit: 1.0 if limit == violation.limit else p for limit, p in candidate.probabilities})
    probability = LIKELY / others if LIKELY / others < MOST_LIKELY else LIKELY
    return limit_met_with(violation.predicted, probability, higher_is_better=METRIC_OF[violation.limit].higher_is_better)


def _slower_arrivals(planner: Planner, chosen: Candidate, request: Request) -> list[Relaxation]:
    """The highest arrival rate, to a few percent, at which the chosen stack is feasible."""
    requested, sustained = request.workload.request_rate_per_s, chosen.metrics.request_rate_per_s
    if requested is None or sustained is None:
        return []
    low, high, best = 0.0, min(sustained.value, requested), None
    for _ in range(RATE_BISECTIONS):
        rate = (low + high) / 2
        slower = request.model_copy(
            update={
                "workload": request.workload.model_copy(update={"request_rate_per_s": rate}),
                "limits": request.limits.model_copy(update={"request_rate_per_s": rate}),
            }
        )
        candidate = planner.simulate(stack_of(chosen), slower)
        if candidate.status is Status.INFEASIBLE:
            high = rate
        else:
            low, best = rate, Relaxation("request_rate_per_s", requested, rate, candidate)
    return [best] if best is not None else []


def _more_devices(planner: Planner, chosen: Candidate, request: Request) -> list[Relaxation]:
    """The fewest devices, doubled each time, on which the chosen techniques are feasible."""
    devices = request.devices * 2
    while devices <= MOST_DEVICES:
        larger = request.model_copy(update={"devices": devices})
        for start in baselines(planner.model, larger, planner.engine, planner.dtypes):
            stack = apply_on_paper(chosen.techniques, start, larger)
            if isinstance(stack, Stack) and (candidate := planner.simulate(stack, larger)).status is not Status.INFEASIBLE:
                return [Relaxation("devices", float(request.devices), float(devices), candidate)]
        devices *= 2
    return []


def _smaller_workloads(planner: Planner, candidates: Sequence[Candidate], chosen: Candidate, request: Request) -> list[Relaxation]:
    """Where memory is the limit: the longest context, and the most concurrent requests, with which one of the candidates is feasible."""
    if MEMORY not in {violation.limit for violation in chosen.violations}:
        return []
    stacks = [stack_of(candidate) for candidate in {candidate.id: candidate for candidate in candidates}.values()]
    workload, relaxed = request.workload, []
    shorter = _largest_feasible(planner, stacks, request, workload.longest_tokens, lambda tokens: _with_context(workload, tokens))
    if shorter is not None:
        relaxed.append(Relaxation("context_tokens", float(workload.longest_tokens), float(shorter[0]), shorter[1]))
    if workload.load is Load.CLOSED and workload.concurrency:
        fewer = _largest_feasible(planner, stacks, request, workload.concurrency, lambda n: workload.model_copy(update={"concurrency": n}))
        if fewer is not None:
            relaxed.append(Relaxation("concurrency", float(workload.concurrency), float(fewer[0]), fewer[1]))
    return relaxed


def _largest_feasible(
    planner: Planner, stacks: Sequence[Stack], request: Request, most: int, workload_of: Callable[[int], Workload]
) -> tuple[int, Candidate] | None:  # fmt: skip
    """The largest number up to `most` with whose workload one of the stacks is feasible, and its candidate."""
    budget_bytes, best = planner.budget_gib(request) * GIB, None
    for stack in stacks:
        number = _largest_that_fits(planner, most, workload_of, stack.deployment, budget_bytes)
        if number < 1 or (best is not None and number <= best[0]):
            continue
        candidate = planner.simulate(stack, request.model_copy(update={"workload": workload_of(number)}))
        if candidate.status is not Status.INFEASIBLE:
            best = (number, candidate)
    return best


def _largest_that_fits(
    planner: Planner, most: int, workload_of: Callable[[int], Workload], deployment: Deployment, budget_bytes: float
) -> int:  # fmt: skip
    """The largest number up to `most` whose workload fits in memory, by bisection; 0 where not even 1 does."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if planner.estimator.memory.requested_bytes(deployment, workload_of(middle)) <= budget_bytes:
            low = middle
        else:
            high = middle - 1
    return low


def _with_context(workload: Workload, tokens: int) -> Workload:
    """The workload cut to a context: at most half of it for the output."""
    output = min(workload.output_tokens, max(tokens // 2, 1))
    prompt = max(min(workload.prompt_tokens, tokens - output), 1)
    return workload.model_copy(update={"prompt_tokens": prompt, "output_tokens": output, "context_limit_tokens": tokens})
