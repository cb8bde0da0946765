"""The parallel layouts of a search: how each spreads the model over the devices, and why the chosen one leads."""

from collections.abc import Iterator

import numpy as np

from advisor.backends.deployment import Parallel
from advisor.planning.advice import Candidate
from advisor.planning.candidates import closed_form_candidate
from advisor.planning.planner import Planner
from advisor.planning.pricing import PricedStacks
from advisor.planning.ranking import Verdicts
from advisor.planning.reasons import changes
from advisor.planning.violations import bound_words
from advisor.profiles.hardware import Hardware
from advisor.profiles.request import Request, Workload
from advisor.quantities.formatting import quantity
from advisor.quantities.limits import METRIC_OF


def layout_warnings(parallel: Parallel, hardware: Hardware, workload: Workload) -> Iterator[str]:
    """Sentences on devices that have nothing to do, and on a layout over more machines than one."""
    idle = parallel.idle_devices(workload.concurrency)
    if idle:
        verb = "is" if idle == 1 else "are"
        yield f"{idle} of {parallel.devices} devices {verb} idle: {workload.concurrency} in flight, {parallel.data} replicas"
    per_machine, group = hardware.devices_of_a_machine, parallel.tensor * parallel.pipeline
    if parallel.devices <= per_machine:
        return
    machines = -(-parallel.devices // per_machine)
    yield f"{parallel.devices:,} devices are {machines:,} machines of at most {per_machine} {hardware.name}"
    if group > per_machine:
        yield (
            f"one replica spans {-(-group // per_machine)} machines, whose network is not priced: the times assume that all its devices "
            "share one interconnect"
        )


def layout_reason(planner: Planner, priced: PricedStacks, verdicts: Verdicts, chosen: Candidate, request: Request) -> str:
    """Why the model is spread as in the chosen plan; empty for a single device.

    The best stack of each other layout is compared with the best of the chosen one, all in closed form.
    """
    if request.devices == 1:
        return ""
    best = dict(_best_by_layout(planner, priced, verdicts, request))
    own = best.pop(chosen.deployment.parallel)
    others = "; ".join(f"{parallel.words}: {_compared(own, other, request)}" for parallel, other in best.items())
    return f"Best of each other layout, compared in closed form: {others}." if others else "No other layout divides the model."


def _best_by_layout(
    planner: Planner, priced: PricedStacks, verdicts: Verdicts, request: Request
) -> Iterator[tuple[Parallel, Candidate]]:  # fmt: skip
    """Each layout with its best stack, best first."""
    layouts = [stack.deployment.parallel for stack in priced.stacks]
    numbers = {parallel: number for number, parallel in enumerate(dict.fromkeys(layouts))}
    ordered = verdicts.order
    first = np.unique(np.array([numbers[parallel] for parallel in layouts])[ordered], return_index=True)[1]
    for rank in sorted(first):
        index = int(ordered[rank])
        yield layouts[index], closed_form_candidate(priced, verdicts, index, request, planner.budget_gib(request))


def _compared(own: Candidate, other: Candidate, request: Request) -> str:
    """The limit that only the other candidate violates, or the metrics in which it differs."""
    missed = {violation.limit for violation in own.violations}
    for violation in other.violations:
        if violation.limit not in missed:
            metric = METRIC_OF[violation.limit]
            predicted = quantity(violation.predicted.value, metric.unit, trim=True)
            side = "under" if metric.higher_is_better else "over"
            return f"{metric.phrase} {predicted}, {side} {bound_words(violation, request.limits)}"
    # In closed form every stack has a sustained rate, which matters only to requests that arrive at one.
    return changes(own.metrics.model_copy(update={"request_rate_per_s": None}), other.metrics)
