"""Times the operators that read each row once, and torch's compiler on the same formula."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from advisor.kernels.rows.add_rmsnorm import add_rmsnorm, add_rmsnorm_reference
from advisor.kernels.rows.silu_mul import silu_mul, silu_mul_reference
from benchmarks.cases.shapes import ROWS
from benchmarks.harness.case import Bench, Case, Measured
from benchmarks.harness.parts import KERNELS
from benchmarks.harness.record import Work
from benchmarks.harness.timing import Candidate, interleaved, sets_for

Make = Callable[[int, int, torch.device], tuple[object, ...]]


@dataclass(frozen=True, slots=True)
class Operator:
    """How to make inputs for (rows, width, device), our operator, its formula in torch, and its traffic."""

    make: Make
    ours: Callable[..., object]
    plain: Callable[..., object]
    elements: int
    """Two-byte elements that are read and written per element of a row."""


def _random(rows: int, width: int, device: torch.device) -> Tensor:
    return torch.randn(rows, width, device=device).to(torch.bfloat16)


def _for_norm(rows: int, width: int, device: torch.device) -> tuple[object, ...]:
    return _random(rows, width, device), _random(rows, width, device), _random(1, width, device)[0]


def _for_gate(rows: int, width: int, device: torch.device) -> tuple[object, ...]:
    return (_random(rows, 2 * width, device),)


OPERATORS: Mapping[str, Operator] = {
    "add-rmsnorm": Operator(_for_norm, add_rmsnorm, add_rmsnorm_reference, 4),
    "silu-mul": Operator(_for_gate, silu_mul, silu_mul_reference, 3),
}


def row_cases(shapes: Sequence[tuple[int, int]] = ROWS, *, seconds: float = 6.0) -> list[Case]:
    """A case for each operator and shape."""
    return [
        Case(part=KERNELS, name=f"{name}/{rows}x{width}", seconds=seconds, needs=(name,), run=partial(time_rows, name, rows, width))
        for rows, width in shapes
        for name in OPERATORS
    ]


def time_rows(name: str, rows: int, width: int, bench: Bench) -> Measured:
    """Time our operator, torch's compiler, and torch operator by operator."""
    operator = OPERATORS[name]
    moved = 2 * operator.elements * rows * width
    sets = sets_for(moved, bench.device)
    inputs = [operator.make(rows, width, bench.device) for _ in range(sets)]
    forms: dict[str, Callable[..., object]] = {"advisor": operator.ours, "torch": operator.plain}
    if bench.device.type == "cuda":
        forms["torch-compile"] = torch.compile(operator.plain, dynamic=False)
    candidates = [Candidate(form, [partial(call, *given) for given in inputs]) for form, call in forms.items()]
    with torch.inference_mode():
        timings = interleaved(candidates, bench.device, bench.samples)
    return Measured(
        settings={"rows": rows, "width": width, "sets": sets}, work={form: Work(bytes=moved) for form in forms}, timings=timings
    )
