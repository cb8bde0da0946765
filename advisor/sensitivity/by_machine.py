"""What would let a technique in: more devices, or another machine of the catalogue."""

from collections.abc import Iterator
from functools import cache

from advisor.estimate.estimator import Estimator
from advisor.estimate.machines.catalogue import catalogue_machine
from advisor.planning.advice import Candidate
from advisor.planning.planner import Planner
from advisor.planning.relaxations import MOST_DEVICES
from advisor.planning.search import baselines
from advisor.profiles.engines import load_engine
from advisor.profiles.hardware import Hardware, load_hardware, shipped_hardware
from advisor.sensitivity.counterfactual import Change, ChangeKind, CounterfactualOutcome, Scenario, new_violations, violates_quality

MOST_MACHINES = 4
"""Others that are priced."""


def by_machine(case: Scenario) -> Iterator[Change]:
    """The fewest devices, and the nearest machine, on which the technique keeps the limits that it misses here, or comes first."""
    found = case.with_technique(case.request)
    if isinstance(found, str) or violates_quality(case, found):
        return
    if new_violations(case, found):
        yield from _more_devices(case)
    yield from _other_machine(case, found)


def _more_devices(case: Scenario) -> Iterator[Change]:
    devices = case.request.devices * 2
    while devices <= MOST_DEVICES:
        wider = case.request.model_copy(update={"devices": devices})
        for start in baselines(case.planner.model, wider, case.chosen.deployment.engine):
            tried = case.trial(wider, start=start)
            if tried is not None and not tried[0].violations:
                before, after = float(case.request.devices), float(devices)
                yield Change(
                    kind=ChangeKind.MACHINE, name="devices", before=before, after=after, outcome=tried[1], candidate=tried[0], request=wider
                )
                return
        devices *= 2


def _other_machine(case: Scenario, found: Candidate) -> Iterator[Change]:
    """The first machine, nearest first, on which the technique comes first, or misses no limit where that is what it lacks."""
    here, missing = case.planner.hardware, bool(new_violations(case, found))
    for hardware in _others(here, by_memory="memory_gib_per_device" in new_violations(case, found)):
        engine = load_engine(case.chosen.deployment.engine)
        estimator = Estimator(catalogue_machine(hardware, engine), engine)
        there = Planner(case.planner.model, hardware, estimator, case.planner.evidence, None)
        tried = case.trial(case.request, there)
        if tried is None or (tried[0].violations and not case.chosen.violations):
            continue
        if tried[1] is CounterfactualOutcome.AHEAD or (missing and not tried[0].violations):
            yield Change(
                kind=ChangeKind.MACHINE,
                name="hardware",
                before=here.id,
                after=hardware.id,
                outcome=tried[1],
                candidate=tried[0],
                request=case.request,
            )
            return


def _others(here: Hardware, *, by_memory: bool) -> list[Hardware]:
    """Machines of the same maker: those with more memory, least first; or those nearest in operations per byte, either way."""
    kin = [other for other in catalogue() if (other.vendor, other.kind) == (here.vendor, here.kind) and other.id != here.id]
    if by_memory:
        larger = [other for other in kin if other.memory_bytes > 1.05 * here.memory_bytes]
        return sorted(larger, key=lambda other: other.memory_bytes)[:MOST_MACHINES]
    ranked = sorted(kin, key=_operations_per_byte)
    below = [other for other in ranked if _operations_per_byte(other) < _operations_per_byte(here)]
    above = [other for other in ranked if _operations_per_byte(other) > _operations_per_byte(here)]
    return list({other.id: other for other in (*below[-1:], *above[:1], *below[:1], *above[-1:])}.values())


def _operations_per_byte(hardware: Hardware) -> float:
    return hardware.peak("bf16") / hardware.memory_bandwidth_bytes_per_s


@cache
def catalogue() -> tuple[Hardware, ...]:
    """Every machine that ships with the package."""
    return tuple(load_hardware(id) for id in shipped_hardware())
