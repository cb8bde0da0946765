"""The search space: every stack of techniques of which none refuses, each applied to a `Deployment`."""

from collections.abc import Iterator
from dataclasses import dataclass

from advisor.backends.deployment import Deployment, Parallel, baseline
from advisor.backends.technique import Slot, Technique
from advisor.backends.technique_names import settings_of
from advisor.backends.techniques import TECHNIQUES
from advisor.profiles.architectures.spec import ModelSpec
from advisor.profiles.errors import AdvisorError, ErrorAction, ExitCode
from advisor.profiles.request import Load, Request

OPEN_LOOP_SEQUENCES = 64
"""Most sequences that a deployment runs at once where requests arrive at a rate."""
OFFLINE_SEQUENCES = 256
"""Most sequences that a deployment runs at once where all requests are queued at the start."""


@dataclass(frozen=True, slots=True)
class Stack:
    """Techniques in order of application, and the deployment with all of them."""

    techniques: tuple[Technique, ...]
    deployment: Deployment

    @property
    def names(self) -> frozenset[str]:
        """The techniques by name."""
        return frozenset(technique.name for technique in self.techniques)


def search(model: ModelSpec, request: Request, engine: str, dtypes: tuple[str, ...] = ()) -> Iterator[Stack]:
    """Generate every stack of which no technique refuses the request.

    A stack has at most one technique of each slot, none that is forbidden, and one of the required ones in a slot that has any. `dtypes`
    are the types of activations worth choosing from on the device, the fastest first.
    """
    slots = [_choices(slot, request) for slot in Slot]
    for start in baselines(model, request, engine, dtypes):
        stacks = [Stack((), start)]
        for choices in slots:
            if choices:
                stacks = _extended(stacks, choices, request)
        yield from stacks


def requirement_refused(model: ModelSpec, request: Request, engine: str, dtypes: tuple[str, ...] = ()) -> AdvisorError:
    """The error for a search that finds no stack: each required technique that is refused, with its reason."""
    return AdvisorError(
        "requirement-refused",
        f"no stack holds what is required: {', '.join(request.require)}",
        exit_code=ExitCode.NO_PLAN,
        notes=tuple(f"{name}: {reason}" for name, reason in _refusals(model, request, engine, dtypes).items()),
        help=("drop a --require",),
        field="require",
        action=ErrorAction.DROP,
    )


def _refusals(model: ModelSpec, request: Request, engine: str, dtypes: tuple[str, ...]) -> dict[str, str]:
    """For each slot whose required techniques are all refused: each of them, with the reason given for the stack with most techniques."""
    refusals: dict[str, str] = {}
    for start in baselines(model, request, engine, dtypes):
        stacks = [Stack((), start)]
        for choices in (_choices(slot, request) for slot in Slot):
            extended = _extended(stacks, choices, request) if choices else stacks
            if not extended:
                largest = max(stacks, key=lambda stack: len(stack.techniques)).deployment
                answers = {technique.name: technique.refuse(request, largest) for technique in reversed(choices)}
                refusals |= {name: answer for name, answer in answers.items() if answer is not None}
                break
            stacks = extended
    return refusals


def _extended(stacks: list[Stack], choices: tuple[Technique, ...], request: Request) -> list[Stack]:
    """The stacks extended by each technique of a slot that is not refused, and unchanged ones where the slot may be empty."""
    required = any(request.requires(technique.name) for technique in choices)
    return [extended for stack in stacks for extended in _with_choices(stack, choices, request, required=required)]


def _with_choices(stack: Stack, choices: tuple[Technique, ...], request: Request, *, required: bool) -> Iterator[Stack]:
    if not required:
        yield stack
    covered: tuple[str, ...] = ()
    for technique in choices:
        if technique.name not in covered and technique.refuse(request, stack.deployment) is None:
            covered += technique.covers
            yield Stack((*stack.techniques, technique), technique.sketch(stack.deployment, request))


def _choices(slot: Slot, request: Request) -> tuple[Technique, ...]:
    """The techniques of a slot with each of their settings: the required ones only, where there are any."""
    allowed = [technique for technique in TECHNIQUES if technique.slot is slot and technique.name not in request.forbid]
    required = [technique for technique in allowed if request.requires(technique.name)]
    return tuple(setting for technique in required or allowed for setting in settings_of(technique, request))


def apply_on_paper(techniques: tuple[Technique, ...], start: Deployment, request: Request) -> Stack | str:
    """The stack of these techniques, applied in slot order; the reason of the first that refuses."""
    deployment = start
    ordered = tuple(sorted(techniques, key=lambda technique: technique.slot))
    for technique in ordered:
        reason = technique.refuse(request, deployment)
        if reason is not None:
            return reason
        deployment = technique.sketch(deployment, request)
    return Stack(ordered, deployment)


def baselines(model: ModelSpec, request: Request, engine: str, dtypes: tuple[str, ...] = ()) -> tuple[Deployment, ...]:
    """The unmodified model in each parallel layout of the request's devices, in the first of `dtypes`."""
    return tuple(
        baseline(model, max_sequences=max_concurrent(request, parallel), parallel=parallel, engine=engine, dtypes=dtypes)
        for parallel in parallel_layouts(model, request.devices)
    )


def max_concurrent(request: Request, parallel: Parallel) -> int:
    """Most sequences that one replica runs at once."""
    workload = request.workload
    if workload.load in (Load.CLOSED, Load.BURST) and workload.concurrency is not None:
        return -(-workload.concurrency // parallel.data)
    return OPEN_LOOP_SEQUENCES if workload.load in (Load.OPEN, Load.TRACE) else workload.concurrency or OFFLINE_SEQUENCES


def parallel_layouts(model: ModelSpec, devices: int) -> tuple[Parallel, ...]:
    """Tensor parallelism by each power of two that divides the devices and the hidden size; the other factor is data-parallel replicas."""
    layouts, tensor = [], 1
    while tensor <= devices:
        if devices % tensor == 0 and model.hidden_size % tensor == 0:
            layouts.append(Parallel(tensor=tensor, data=devices // tensor))
        tensor *= 2
    return tuple(layouts)
