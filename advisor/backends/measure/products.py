"""Times matrix products as the runtime computes them: linears in fp32 and bf16, and the quantised ones that replace them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from advisor.backends.measure.bandwidth import beyond_cache_bytes, cache_bytes
from advisor.backends.measure.interleave import MeasurementKind
from advisor.backends.measure.timing import seconds_per_call
from advisor.profiles.machine import GemmPoint

if TYPE_CHECKING:  # heavy; functions below import what they need
    import torch

    from advisor.backends.model.quantised_linear import Product

CACHED_SHARE = 4
"""A working set of this fraction (1/4) of the last-level cache stays in it."""
MOST_COPIES = 256
"""Most copies of a small weight: no model has more layers."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A weight format: its name in the tables, and the scheme and group size that the quantiser takes."""

    name: str
    scheme: str | None
    group_size: int | None = None


@dataclass(frozen=True, slots=True)
class GemmCase:
    """A product [m, k] x [k, n] with the numbers of rows m to time; `cached` where the weight's copies fit in the cache."""

    n: int
    k: int
    rows: tuple[int, ...]
    cached: bool


QUANTISED = (Stored("int8", "int8"), Stored("int4-g32", "int4", 32), Stored("int4-g128", "int4", 128))
FORMATS = (Stored("bf16", None), *QUANTISED)
MEASURED_DTYPES = ("bf16", "fp32")
FEW, MANY = (1, 4, 16, 64, 256, 1024), (1, 4, 16, 64, 256)
CASES = (
    *(GemmCase(n, k, FEW, True) for n, k in ((256, 256), (1024, 1024), (128, 128), (768, 256), (256, 768), (512, 512), (2048, 256))),
    *(GemmCase(n, k, MANY, False) for n, k in ((1024, 1024), (4096, 4096), (512, 512), (2816, 1024), (1024, 2816), (2048, 2048))),
    *(GemmCase(n, k, FEW, True) for n, k in ((128, 256), (384, 128), (128, 384), (1408, 512), (512, 1408), (2048, 2048))),
    *(GemmCase(n, k, (2, 8, 32), True) for n, k in ((256, 256), (1024, 1024))),
)
"""Most informative first: cases beyond the time budget are skipped, and the tables interpolate."""
OTHER_CASES = (1, 7, 8, 12)
"""Cases that are timed in the slower of the two types as well, so that the choice between them has a price."""


def product_timings(device: "torch.device", share: float, *, dtype: str = "bf16") -> MeasurementKind[GemmPoint]:
    """The timings of every case in every format whose group size divides `k`; the first case is timed in every format in any case.

    `dtype` is the type of activations and the unquantised format; some cases are timed in the other of `MEASURED_DTYPES` too.
    """
    formats = (Stored(dtype, None), *QUANTISED)
    others = tuple(Stored(other, None) for other in MEASURED_DTYPES if other != dtype)
    tasks = [
        partial(time_case, case, stored, device, dtype)
        for index, case in enumerate(CASES)
        for stored in (*formats, *(others if index in OTHER_CASES else ()))
        if stored.group_size is None or case.k % stored.group_size == 0
    ]
    return MeasurementKind(tasks=tasks, share=share, required=len(formats))


def time_case(case: GemmCase, stored: Stored, device: "torch.device", dtype: str = "bf16") -> Iterator[GemmPoint]:
    """One point for each number of rows; activations in `dtype`, or in the format itself if that is unquantised.

    Calls alternate over copies of the weight, so that it is read from cache or from memory.
    """
    import torch

    from advisor.backends.model.load import torch_dtype
    from advisor.backends.runtime.model.linears import product

    activations = stored.name if stored.scheme is None else dtype
    modules = weight_copies(case, stored, device, activations)
    working_set, seconds = sum(stored_bytes(module) for module in modules), {}
    with ExitStack() as undo, torch.inference_mode():
        products = [product([module], frozenset(), undo) for module in modules]
        for rows in case.rows:
            inputs = torch.randn(rows, case.k, device=device).to(torch_dtype(activations))
            seconds[rows] = seconds_per_call(_round_robin(products, inputs), device, cycle=_cycle(case, rows, len(modules)))
    for rows, measured in seconds.items():
        yield GemmPoint(format=stored.name, m=rows, n=case.n, k=case.k, working_set_bytes=working_set, seconds=measured)


def _round_robin(products: "list[Product]", inputs: "torch.Tensor") -> Callable[[int], object]:
    return lambda call: products[call % len(products)](inputs)


def _cycle(case: GemmCase, rows: int, copies: int) -> int:
    """Calls in a cycle: every copy once; any number where arithmetic dominates reading the weights."""
    return copies if rows <= 16 and not case.cached else 1


def weight_copies(case: GemmCase, stored: Stored, device: "torch.device", dtype: str = "bf16") -> list[Any]:
    """Copies of one matrix that together fit in the cache, or together exceed it."""
    first = linear(case.n, case.k, stored, device, dtype)
    target = cache_bytes(device) // CACHED_SHARE if case.cached else beyond_cache_bytes(device)
    copies = max(1, min(MOST_COPIES, target // stored_bytes(first)))
    return [first, *(deepcopy(first) for _ in range(copies - 1))]


def linear(n: int, k: int, stored: Stored, device: "torch.device", dtype: str = "bf16") -> Any:
    """A linear module with random weights [n, k] of type `dtype`, quantised to the given format."""
    import torch

    from advisor.backends.model.load import torch_dtype

    parent = torch.nn.Sequential(torch.nn.Linear(k, n, bias=False, device=device, dtype=torch_dtype(dtype)))
    if stored.scheme is not None:
        from advisor.backends.model.quantised_linear import quantise_linears

        quantise_linears(parent, stored.scheme, stored.group_size)
    return parent[0].eval()


def stored_bytes(module: Any) -> int:
    """Bytes of a module's weights and scales."""
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))
