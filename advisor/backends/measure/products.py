"""Times matrix products as the runtime computes them: bf16 linears and the quantised ones that replace them."""

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
"""A working set of the last-level cache over this lives in it."""
MOST_COPIES = 256
"""Making more copies of small weights than a model has of them would cost time and tell nothing."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A weight format as the tables name it, and how the quantiser is asked for it."""

    name: str
    scheme: str | None
    group_size: int | None = None


@dataclass(frozen=True, slots=True)
class GemmCase:
    """Outputs and inputs of a matrix, the rows to time, and whether its copies are to live in the cache."""

    n: int
    k: int
    rows: tuple[int, ...]
    cached: bool


FORMATS = (Stored("bf16", None), Stored("int8", "int8"), Stored("int4-g32", "int4", 32), Stored("int4-g128", "int4", 128))
FEW, MANY = (1, 4, 16, 64, 256, 1024), (1, 4, 16, 64, 256)
CASES = (
    *(GemmCase(n, k, FEW, True) for n, k in ((256, 256), (1024, 1024), (128, 128), (768, 256), (256, 768), (512, 512), (2048, 256))),
    *(GemmCase(n, k, MANY, False) for n, k in ((1024, 1024), (4096, 4096), (512, 512), (2816, 1024), (1024, 2816), (2048, 2048))),
    *(GemmCase(n, k, FEW, True) for n, k in ((128, 256), (384, 128), (128, 384), (1408, 512), (512, 1408), (2048, 2048))),
    *(GemmCase(n, k, (2, 8, 32), True) for n, k in ((256, 256), (1024, 1024))),
)
"""Most telling first: what there is no time for is left out, and the tables interpolate over the gap."""


def product_timings(device: "torch.device", share: float) -> MeasurementKind[GemmPoint]:
    """Every case in every format that divides it; the first case of each format is always timed."""
    works = [
        partial(time_case, case, stored, device)
        for case in CASES
        for stored in FORMATS
        if stored.group_size is None or case.k % stored.group_size == 0
    ]
    return MeasurementKind(works=works, share=share, needed=len(FORMATS))


def time_case(case: GemmCase, stored: Stored, device: "torch.device") -> Iterator[GemmPoint]:
    """One point for each number of rows; calls go round over copies of the weight, so that it comes from where a model's would."""
    import torch

    from advisor.backends.runtime.model.linears import product

    modules = weight_copies(case, stored, device)
    held, seconds = sum(stored_bytes(module) for module in modules), {}
    with ExitStack() as undo, torch.inference_mode():
        products = [product([module], frozenset(), undo) for module in modules]
        for rows in case.rows:
            given = torch.randn(rows, case.k, device=device).to(torch.bfloat16)
            seconds[rows] = seconds_per_call(_round_robin(products, given), device, cycle=_cycle(case, rows, len(modules)))
    for rows, took in seconds.items():
        yield GemmPoint(format=stored.name, m=rows, n=case.n, k=case.k, working_set_bytes=held, seconds=took)


def _round_robin(products: "list[Product]", given: "torch.Tensor") -> Callable[[int], object]:
    return lambda call: products[call % len(products)](given)


def _cycle(case: GemmCase, rows: int, copies: int) -> int:
    """Calls that make a round whole: every copy once, but where arithmetic outweighs the weights a few will do."""
    return copies if rows <= 16 and not case.cached else 1


def weight_copies(case: GemmCase, stored: Stored, device: "torch.device") -> list[Any]:
    """The same matrix so often that all of it fits in the cache, or that it surely does not."""
    first = linear(case.n, case.k, stored, device)
    wanted = cache_bytes(device) // CACHED_SHARE if case.cached else beyond_cache_bytes(device)
    copies = max(1, min(MOST_COPIES, wanted // stored_bytes(first)))
    return [first, *(deepcopy(first) for _ in range(copies - 1))]


def linear(n: int, k: int, stored: Stored, device: "torch.device") -> Any:
    """A linear module of that shape, quantised as a model's would be."""
    import torch

    holder = torch.nn.Sequential(torch.nn.Linear(k, n, bias=False, device=device, dtype=torch.bfloat16))
    if stored.scheme is not None:
        from advisor.backends.model.quantised_linear import quantise_linears

        quantise_linears(holder, stored.scheme, stored.group_size)
    return holder[0].eval()


def stored_bytes(module: Any) -> int:
    """Bytes of a module's weights and scales."""
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))
