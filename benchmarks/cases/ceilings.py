"""Measures the ceilings of a device: copying, reading, and multiplying large matrices of random numbers."""

# Triton's functions take blocks, which have no Python type.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

import time
from collections.abc import Callable

import torch
import triton
import triton.language as tl

from advisor.kernels.kernel import INTERPRETED
from advisor.profiles.formats import GIB
from benchmarks.harness.case import Bench, Case, Measured
from benchmarks.harness.parts import CEILINGS
from benchmarks.harness.record import Work
from benchmarks.harness.timing import Candidate, interleaved

LARGE_BYTES = 4 * GIB
SIZE = 8192
PRODUCT_S = 5.0
"""Time for all samples of the product."""
FIRST_SIZE = 256
READ_BLOCK = 4096
"""Elements per iteration of a program of the reader."""


def ceiling_cases(*, buffer_bytes: int = LARGE_BYTES, size: int = SIZE) -> list[Case]:
    """Copy, read, and a product in bf16."""
    return [
        Case(part=CEILINGS, name="copy", seconds=5, run=lambda bench: copy_ceiling(bench, buffer_bytes)),
        Case(part=CEILINGS, name="read", seconds=6, run=lambda bench: read_ceiling(bench, buffer_bytes)),
        Case(part=CEILINGS, name="product-bf16", seconds=PRODUCT_S, run=lambda bench: product_ceiling(bench, size)),
    ]


def copy_ceiling(bench: Bench, buffer_bytes: int) -> Measured:
    """Time a copy of `buffer_bytes`: that many are read and as many written."""
    source = _random(buffer_bytes, bench.device)
    target = torch.empty_like(source)
    timings = interleaved([Candidate("copy", [lambda: target.copy_(source)])], bench.device, bench.samples)
    return Measured(settings={"bytes": buffer_bytes}, work={"copy": Work(bytes=2 * buffer_bytes)}, timings=timings)


def read_ceiling(bench: Bench, buffer_bytes: int) -> Measured:
    """Time reading `buffer_bytes` by a kernel that only reads, and by torch's sum."""
    source = _random(buffer_bytes, bench.device)
    candidates = [Candidate("torch-sum", [source.sum])]
    if bench.device.type == "cuda" or INTERPRETED:
        candidates.insert(0, Candidate("read", [Reader(source.view(torch.int32))]))
    timings = interleaved(candidates, bench.device, bench.samples)
    return Measured(
        settings={"bytes": buffer_bytes}, work={candidate.name: Work(bytes=buffer_bytes) for candidate in candidates}, timings=timings
    )


class Reader:
    """Reads an int32 buffer by as many programs as fill the device; each writes one number, so that no load is optimised away."""

    def __init__(self, source: torch.Tensor) -> None:
        self.source = source
        units = torch.cuda.get_device_properties(source.device).multi_processor_count if source.is_cuda else 1
        self.programs = 8 * units
        self.out = torch.empty(self.programs, dtype=torch.int32, device=source.device)

    def __call__(self) -> torch.Tensor:
        """Read the whole buffer; returns one number per program."""
        count = self.source.numel()
        rounds = -(-count // (READ_BLOCK * self.programs))
        _read_kernel[(self.programs,)](self.source, self.out, rounds, count, BLOCK=READ_BLOCK, num_warps=8)
        return self.out


@triton.jit
def _read_kernel(source, out, rounds, count, BLOCK: tl.constexpr):  # noqa: N803 - constants of Triton functions are capitals
    program = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], dtype=tl.int32)
    for index in range(rounds):
        offsets = (index * tl.num_programs(0) + program).to(tl.int64) * BLOCK + columns
        total = total ^ tl.load(source + offsets, mask=offsets < count, other=0)
    tl.store(out + program, tl.sum(total, 0))


def product_ceiling(bench: Bench, size: int) -> Measured:
    """Time a product of square bf16 matrices of random numbers, as zeros take less power and run faster.

    The matrices are smaller than `size` where its samples would take longer than `PRODUCT_S`: a processor without bf16 instructions is
    a hundred times slower.
    """
    affordable = affordable_size(size, lambda rows: _product_s(rows, bench.device), PRODUCT_S / (bench.samples + 2))
    product = _product(affordable, bench.device)
    timings = interleaved([Candidate("product-bf16", [product])], bench.device, bench.samples)
    work = Work(bytes=6 * affordable**2, flops=2 * affordable**3)
    notes = () if affordable == size else (f"a product of {size} rows takes too long here: measured with {affordable}",)
    return Measured(settings={"size": affordable}, work={"product-bf16": work}, timings=timings, notes=notes)


def affordable_size(size: int, seconds_of: Callable[[int], float], limit_s: float) -> int:
    """The size of square matrices, doubled from `FIRST_SIZE` up to `size` while one product of twice the size fits in `limit_s`.

    `seconds_of` times one product; twice the size has eight times the operations.
    """
    tried = min(FIRST_SIZE, size)
    while tried < size and 8 * seconds_of(tried) <= limit_s:
        tried = min(2 * tried, size)
    return tried


def _product_s(size: int, device: torch.device) -> float:
    """Seconds of one product, after one that warms up."""
    product = _product(size, device)
    product()
    started = time.perf_counter()
    product()[0, 0].item()
    return time.perf_counter() - started


def _product(size: int, device: torch.device) -> Callable[[], torch.Tensor]:
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    out = torch.empty_like(left)
    return lambda: torch.mm(left, right, out=out)


def _random(count_bytes: int, device: torch.device) -> torch.Tensor:
    """`count_bytes` of random floats: repeating patterns could be moved faster."""
    return torch.randn(count_bytes // 4, dtype=torch.float32, device=device)
