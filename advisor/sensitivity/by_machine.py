"""Counterfactuals by machine: more devices, or another accelerator of the catalogue."""

from collections.abc import Collection, Iterator
from functools import cache

from advisor.estimate.estimator import Estimator
from advisor.estimate.machines.catalogue import catalogue_machine
from advisor.planning.planner import Planner
from advisor.planning.relaxations import MOST_DEVICES
from advisor.planning.search import baselines
from advisor.profiles.engines import load_engine
from advisor.profiles.hardware import Hardware, load_hardware, shipped_hardware
from advisor.quantities.limits import MEMORY
from advisor.sensitivity.counterfactual import Change, ChangeKind, CounterfactualOutcome, Scenario, new_violations, violates_quality

MOST_MACHINES = 4
"""Most other accelerators that are priced."""


def by_machine(scenario: Scenario) -> Iterator[Change]:
    """The fewest devices, and the nearest accelerator, on which the technique meets the limits that it violates here, or ranks first."""
    candidate = scenario.with_technique(scenario.request)
    if isinstance(candidate, str) or violates_quality(scenario, candidate):
        return
    violated = new_violations(scenario, candidate)
    if violated:
        yield from _more_devices(scenario)
    yield from _other_accelerator(scenario, violated)


def _more_devices(scenario: Scenario) -> Iterator[Change]:
    """The fewest devices, doubled each time, on which the plan with the technique meets all limits."""
    devices = scenario.request.devices * 2
    while devices <= MOST_DEVICES:
        request = scenario.request.model_copy(update={"devices": devices})
        for start in baselines(scenario.planner.model, request, scenario.chosen.deployment.engine, scenario.planner.dtypes):
            trial = scenario.trial(request, start=start)
            if trial is not None and not trial[0].violations:
                yield Change(
                    kind=ChangeKind.MACHINE,
                    name="devices",
                    before=float(scenario.request.devices),
                    after=float(devices),
                    outcome=trial[1],
                    candidate=trial[0],
                    request=request,
                )
                return
        devices *= 2


def _other_accelerator(scenario: Scenario, violated: Collection[str]) -> Iterator[Change]:
    """The nearest accelerator on which the technique ranks first, or, where it violates limits here, on which it meets all."""
    here = scenario.planner.hardware
    for hardware in _others(here, by_memory=MEMORY in violated):
        engine = load_engine(scenario.chosen.deployment.engine)
        estimator = Estimator(catalogue_machine(hardware, engine), engine)
        planner = Planner(scenario.planner.model, hardware, estimator, scenario.planner.evidence, None)
        trial = scenario.trial(scenario.request, planner, scenario.start_on(planner))
        if trial is None or (trial[0].violations and not scenario.chosen.violations):
            continue
        if trial[1] is CounterfactualOutcome.AHEAD or (violated and not trial[0].violations):
            yield Change(
                kind=ChangeKind.MACHINE,
                name="hardware",
                before=here.id,
                after=hardware.id,
                outcome=trial[1],
                candidate=trial[0],
                request=scenario.request,
            )
            return


def _others(here: Hardware, *, by_memory: bool) -> list[Hardware]:
    """Accelerators of the same vendor and kind: those with more memory, least first; or those nearest in operations per byte."""
    related = [other for other in catalogue() if (other.vendor, other.kind) == (here.vendor, here.kind) and other.id != here.id]
    if by_memory:
        larger = [other for other in related if other.memory_bytes > 1.05 * here.memory_bytes]
        return sorted(larger, key=lambda other: other.memory_bytes)[:MOST_MACHINES]
    ranked = sorted(related, key=_operations_per_byte)
    below = [other for other in ranked if _operations_per_byte(other) < _operations_per_byte(here)]
    above = [other for other in ranked if _operations_per_byte(other) > _operations_per_byte(here)]
    return list({other.id: other for other in (*below[-1:], *above[:1], *below[:1], *above[-1:])}.values())


def _operations_per_byte(hardware: Hardware) -> float:
    """Operations in bf16 for each byte of memory traffic: the ridge point of the roofline."""
    return hardware.peak("bf16") / hardware.memory_bandwidth_bytes_per_s


@cache
def catalogue() -> tuple[Hardware, ...]:
    """Every accelerator of the catalogue."""
    return tuple(load_hardware(id) for id in shipped_hardware())
