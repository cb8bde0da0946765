"""Times int4 and int8 linears, the bf16 linears they replace and those of other libraries, on matrices of public models."""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from advisor.backends.measure.products import Stored, linear, stored_bytes
from benchmarks.cases.shapes import LINEARS, Model
from benchmarks.harness.case import Bench, Case, Measured
from benchmarks.harness.checks import gpu_checks
from benchmarks.harness.parts import KERNELS
from benchmarks.harness.record import Timing, Work
from benchmarks.harness.timing import Candidate, absent, interleaved, sets_for

FORMATS = {"int4-linear": Stored("int4-g128", "int4", 128), "int8-linear": Stored("int8", "int8")}
"""Weights by kernel; torch's own layer is timed with each."""
PLAIN = Stored("bf16", None)
PEERS = {"int4-linear": (("torchao-int4", "torchao"), ("gemlite-int4", "gemlite")), "int8-linear": (("torchao-int8", "torchao"),)}
"""Candidates of other libraries by kernel, and the package that each requires."""

Shapes = Sequence[tuple[Model, str, int]]


def linear_cases(shapes: Shapes = LINEARS, *, seconds: float = 3.0) -> list[Case]:
    """A case for each matrix, number of rows and format."""
    return [
        Case(
            part=KERNELS,
            name=f"{kernel}/{model.name}-{matrix}-rows{rows}",
            seconds=seconds,
            needs=gpu_checks(kernel),
            run=partial(time_linear, kernel, model, matrix, rows),
        )
        for model, matrix, rows in shapes
        for kernel in FORMATS
    ]


def time_linear(kernel: str, model: Model, matrix: str, rows: int, bench: Bench) -> Measured:
    """Time the format, bf16 and peers on more copies of the matrix than fit the device's cache."""
    n, k = model.matrices[matrix]
    modules = layers(kernel, n, k, bench.device)
    missing: list[Timing] = []
    for name, module in peers(kernel, n, k, bench.device):
        if isinstance(module, nn.Module):
            modules[name] = module
        else:
            missing.append(absent(name, module))
    sets = sets_for(min(stored_bytes(module) for module in modules.values()), bench.device)
    given = torch.randn(rows, k, device=bench.device).to(torch.bfloat16)
    candidates = [Candidate(name, _calls(copies(module, sets), given)) for name, module in modules.items()]
    with torch.inference_mode():
        timings = interleaved(candidates, bench.device, bench.samples)
    moved = 2 * rows * (n + k)
    return Measured(
        settings={"model": model.name, "matrix": matrix, "rows": rows, "n": n, "k": k, "sets": sets},
        work={name: Work(bytes=stored_bytes(module) + moved, flops=2 * rows * n * k) for name, module in modules.items()},
        timings=(*timings, *missing),
    )


def layers(kernel: str, n: int, k: int, device: torch.device) -> dict[str, nn.Module]:
    """Our layer and torch's, by name."""
    plain = linear(n, k, PLAIN, device)
    return {FORMATS[kernel].name: linear(n, k, FORMATS[kernel], device), PLAIN.name: plain}


def copies(module: nn.Module, count: int) -> list[nn.Module]:
    """`count` copies of the layer, itself the first."""
    return [module, *(deepcopy(module) for _ in range(count - 1))]


def _calls(modules: Sequence[nn.Module], given: torch.Tensor) -> list[Callable[[], object]]:
    return [partial(module, given) for module in modules]


def peers(kernel: str, n: int, k: int, device: torch.device) -> Iterator[tuple[str, nn.Module | str]]:
    """Layers of other libraries by name, or the reason why one is missing."""
    for name, package in PEERS.get(kernel, ()):
        if find_spec(package) is None:
            yield name, f"{package} is not installed"
            continue
        try:
            yield name, _peer(name, n, k, device)
        except Exception as error:  # noqa: BLE001 - a library of another version may refuse in any way; we only want to say so
            yield name, f"{type(error).__name__}: {error}"


def _peer(name: str, n: int, k: int, device: torch.device) -> nn.Module:
    plain = nn.Linear(k, n, bias=False, device=device, dtype=torch.bfloat16)
    if name == "gemlite-int4":
        return _gemlite(plain)
    from torchao.quantization import Int4WeightOnlyConfig, Int8WeightOnlyConfig, quantize_

    config: Any = Int4WeightOnlyConfig(group_size=128) if name == "torchao-int4" else Int8WeightOnlyConfig()
    holder = nn.Sequential(plain)
    quantize_(holder, config)
    return torch.compile(holder[0])  # type: ignore[return-value]


def _gemlite(plain: nn.Linear) -> nn.Module:
    from gemlite.helper import A16W4_HQQ_INT

    made: nn.Module = A16W4_HQQ_INT(device=plain.weight.device).from_linear(plain)
    return made
