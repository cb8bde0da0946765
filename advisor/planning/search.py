"""Every stack of techniques that nobody refuses, folded into deployments. Knows no technique by name."""

from collections.abc import Iterator
from dataclasses import dataclass

from advisor.backends.deployment import Deployment, Parallel, baseline
from advisor.backends.technique import Slot, Technique
from advisor.backends.technique_names import settings_of
from advisor.backends.techniques import TECHNIQUES
from advisor.planning.advice import Candidate
from advisor.profiles.architectures.spec import ModelSpec
from advisor.profiles.request import Load, Request

OPEN_SLOTS = 64
"""Sequences that a deployment may run at once under an open load."""
OFFLINE_SLOTS = 256
"""Sequences that a deployment may run at once when everything is there at the start."""


@dataclass(frozen=True, slots=True)
class Stack:
    """Techniques in order of application and the deployment they make."""

    techniques: tuple[Technique, ...]
    deployment: Deployment

    @property
    def names(self) -> frozenset[str]:
        """The techniques by name."""
        return frozenset(technique.name for technique in self.techniques)


def baselines(model: ModelSpec, request: Request, engine: str) -> tuple[Deployment, ...]:
    """The unmodified model on each way to spread it over the devices."""
    return tuple(
        baseline(model, max_sequences=max_concurrent(request, parallel), parallel=parallel, engine=engine)
        for parallel in parallel_layouts(model, request.devices)
    )


def max_concurrent(request: Request, parallel: Parallel) -> int:
    """Sequences that one replica may run at once."""
    workload = request.workload
    if workload.load in (Load.CLOSED, Load.BURST) and workload.concurrency is not None:
        return -(-workload.concurrency // parallel.data)
    return OPEN_SLOTS if workload.load in (Load.OPEN, Load.TRACE) else workload.concurrency or OFFLINE_SLOTS


def parallel_layouts(model: ModelSpec, devices: int) -> tuple[Parallel, ...]:
    """Tensor-parallel groups of every power of two that divides devices, hidden size and experts; replicas of them."""
    found, tensor = [], 1
    while tensor <= devices:
        if devices % tensor == 0 and model.hidden_size % tensor == 0:
            found.append(Parallel(tensor=tensor, data=devices // tensor))
        tensor *= 2
    return tuple(found)


def stacks(model: ModelSpec, request: Request, engine: str) -> Iterator[Stack]:
    """Every stack that no technique refuses. Forbidden ones stay out; of required ones in a slot, one is in."""
    by_slot = [_choices(slot, request) for slot in Slot]
    for start in baselines(model, request, engine):
        level = [Stack((), start)]
        for choices in by_slot:
            if choices:
                must = _is_required(choices, request)
                level = [grown for stack in level for grown in _extend(stack, choices, request, must=must)]
        yield from level


def why_nothing_is_left(model: ModelSpec, request: Request, engine: str) -> dict[str, str]:
    """Why no stack holds what is required: each technique that is let in nowhere, and what it says to the fullest stack before it."""
    found: dict[str, str] = {}
    for start in baselines(model, request, engine):
        level = [Stack((), start)]
        for choices in (_choices(slot, request) for slot in Slot):
            must = _is_required(choices, request)
            grown = [grown for stack in level for grown in _extend(stack, choices, request, must=must)] if choices else level
            if not grown:
                fullest = max(level, key=lambda stack: len(stack.techniques)).deployment
                said = {technique.name: technique.refuse(request, fullest) for technique in reversed(choices)}
                found |= {name: sentence for name, sentence in said.items() if sentence is not None}
                break
            level = grown
    return found


def apply_on_paper(techniques: tuple[Technique, ...], start: Deployment, request: Request) -> Stack | str:
    """Apply the techniques on paper in slot order; the sentence of the first that refuses."""
    deployment = start
    ordered = tuple(sorted(techniques, key=lambda technique: technique.slot))
    for technique in ordered:
        sentence = technique.refuse(request, deployment)
        if sentence is not None:
            return sentence
        deployment = technique.sketch(deployment, request)
    return Stack(ordered, deployment)


def _choices(slot: Slot, request: Request) -> tuple[Technique, ...]:
    kinds = [technique for technique in TECHNIQUES if technique.slot is slot and technique.name not in request.forbid]
    required = [technique for technique in kinds if request.requires(technique.name)]
    return tuple(setting for technique in required or kinds for setting in settings_of(technique, request))


def _is_required(choices: tuple[Technique, ...], request: Request) -> bool:
    """Whether one of them has to be in."""
    return any(request.requires(technique.name) for technique in choices)


def _extend(stack: Stack, choices: tuple[Technique, ...], request: Request, *, must: bool) -> Iterator[Stack]:
    if not must:
        yield stack
    covered: tuple[str, ...] = ()
    for technique in choices:
        if technique.name not in covered and technique.refuse(request, stack.deployment) is None:
            covered += technique.covers
            yield Stack((*stack.techniques, technique), technique.sketch(stack.deployment, request))


def stack_of(candidate: Candidate) -> Stack:
    """The stack behind a candidate."""
    return Stack(candidate.techniques, candidate.deployment)
