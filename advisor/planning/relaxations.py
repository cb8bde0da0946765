"""What would have to give where nothing fits: for each limit the smallest change of it alone that lets a plan in."""

from collections.abc import Callable, Sequence

from advisor.backends.deployment import Deployment
from advisor.estimate.uncertainty.probability import joint_probability, limit_met_with
from advisor.planning.advice import LIKELY, Candidate, Relaxation, Status, Violation
from advisor.planning.planner import Planner
from advisor.planning.pricing import PricedStacks
from advisor.planning.ranking import Verdicts, representatives
from advisor.planning.search import Stack, apply_on_paper, baselines, stack_of
from advisor.profiles.formats import GIB
from advisor.profiles.request import Load, Request, Workload
from advisor.quantities.limits import METRIC_OF

MOST_DEVICES = 8
"""Of one machine; more are a cluster."""
MOST_LIKELY = 0.99
"""Beyond it a limit would have to be far from what is predicted."""
RATE_ROUNDS = 5
"""Halvings in search of the most requests per second."""


def relaxations(planner: Planner, priced: PricedStacks, judged: Verdicts, chosen: Candidate, request: Request) -> list[Relaxation]:
    """For each limit, the stack that misses only it, and by least."""
    found = []
    for limit in judged.missed:
        place = judged.misses_only(limit)
        if place is None:
            continue
        best = planner.candidate(priced.stacks[place], request)
        missed = next((miss for miss in best.violations if miss.limit == limit), None)
        if missed is not None and len(best.violations) == 1:
            found.append(Relaxation(limit, missed.asked, missed.predicted.value, best, _likely(missed, best)))
    nearest = [chosen, *(planner.candidate(priced.stacks[place], request) for place in representatives(priced.columns, judged.order, None))]
    slower = _slower_arrivals(planner, chosen, request)
    found = [relaxation for relaxation in found if relaxation.limit != "request_rate_per_s"] if slower else found
    return found + slower + _smaller_workloads(planner, nearest, chosen, request) + _more_devices(planner, chosen, request)


def _likely(missed: Violation, candidate: Candidate) -> float:
    """Where the limit would have to be for all limits to be kept with `LIKELY`; for it alone where the others leave no room for that."""
    others = joint_probability({limit: 1.0 if limit == missed.limit else chance for limit, chance in candidate.probabilities})
    wanted = LIKELY / others if LIKELY / others < MOST_LIKELY else LIKELY
    return limit_met_with(missed.predicted, wanted, higher_is_better=METRIC_OF[missed.limit].higher_is_better)


def _slower_arrivals(planner: Planner, chosen: Candidate, request: Request) -> list[Relaxation]:
    """The most requests per second, to a few percent, that the nearest stack serves within every limit."""
    asked, lasting = request.workload.request_rate_per_s, chosen.metrics.request_rate_per_s
    if asked is None or lasting is None:
        return []
    low, high, best = 0.0, min(lasting.value, asked), None
    for _ in range(RATE_ROUNDS):
        rate = (low + high) / 2
        eased = request.model_copy(
            update={
                "workload": request.workload.model_copy(update={"request_rate_per_s": rate}),
                "limits": request.limits.model_copy(update={"request_rate_per_s": rate}),
            }
        )
        candidate = planner.candidate(stack_of(chosen), eased)
        if candidate.status is Status.INFEASIBLE:
            high = rate
        else:
            low, best = rate, Relaxation("request_rate_per_s", asked, rate, candidate)
    return [best] if best is not None else []


def _more_devices(planner: Planner, chosen: Candidate, request: Request) -> list[Relaxation]:
    """The fewest devices, doubled each time, on which the nearest stack passes."""
    devices = request.devices * 2
    while devices <= MOST_DEVICES:
        wider = request.model_copy(update={"devices": devices})
        for start in baselines(planner.model, wider, planner.estimator.engine.name):
            stack = apply_on_paper(chosen.techniques, start, wider)
            if isinstance(stack, Stack) and (candidate := planner.candidate(stack, wider)).status is not Status.INFEASIBLE:
                return [Relaxation("devices", float(request.devices), float(devices), candidate)]
        devices *= 2
    return []


def _smaller_workloads(planner: Planner, near: Sequence[Candidate], chosen: Candidate, request: Request) -> list[Relaxation]:
    """Where memory is missing: the most context, and the most requests, with which one of the nearest stacks passes."""
    if "memory_gib_per_device" not in {miss.limit for miss in chosen.violations}:
        return []
    nearest = list({candidate.id: candidate for candidate in near}.values())
    workload, found = request.workload, []
    shorter = _largest_feasible(planner, nearest, request, workload.longest_tokens, lambda tokens: _with_context(request, tokens))
    if shorter is not None:
        found.append(Relaxation("context_tokens", float(workload.longest_tokens), float(shorter[0]), shorter[1]))
    if workload.load is Load.CLOSED and workload.concurrency:
        fewer = _largest_feasible(planner, nearest, request, workload.concurrency, lambda n: workload.model_copy(update={"concurrency": n}))
        if fewer is not None:
            found.append(Relaxation("concurrency", float(workload.concurrency), float(fewer[0]), fewer[1]))
    return found


def _largest_feasible(
    planner: Planner, nearest: Sequence[Candidate], request: Request, asked: int, workload_of: Callable[[int], Workload]
) -> tuple[int, Candidate] | None:
    """The largest number whose workload one of the stacks serves within every limit, and that stack."""
    budget, best = planner.budget_gib(request) * GIB, None
    for stack in map(stack_of, nearest):
        number = _largest(planner, asked, workload_of, stack.deployment, budget)
        if number < 1 or (best is not None and number <= best[0]):
            continue
        candidate = planner.candidate(stack, request.model_copy(update={"workload": workload_of(number)}))
        if candidate.status is not Status.INFEASIBLE:
            best = (number, candidate)
    return best


def _largest(planner: Planner, asked: int, workload_of: Callable[[int], Workload], deployment: Deployment, budget_bytes: float) -> int:
    """The largest number up to `asked` whose workload fits in memory; 0 when not even 1 does."""
    low, high = 0, asked
    while low < high:
        middle = (low + high + 1) // 2
        if planner.estimator.requested_bytes(deployment, workload_of(middle)) <= budget_bytes:
            low = middle
        else:
            high = middle - 1
    return low


def _with_context(request: Request, tokens: int) -> Workload:
    workload = request.workload
    output = min(workload.output_tokens, max(tokens // 2, 1))
    prompt = max(min(workload.prompt_tokens, tokens - output), 1)
    return workload.model_copy(update={"prompt_tokens": prompt, "output_tokens": output, "context_limit_tokens": tokens})
