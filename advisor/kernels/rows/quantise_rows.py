"""Activations to eight bits, one float32 scale per row, in one pass.

Letters: M rows, K elements of a row. A row that holds an infinity or a not-a-number gets zeros and a scale that is not a number.
"""

# Triton's functions take blocks, which have no Python type.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"
from typing import Literal

import torch
import triton
import triton.language as tl
from torch import Tensor

from advisor.kernels.kernel import INTERPRETED, Kernel, Variant
from advisor.kernels.rows.rounding import e4m3, nearest_integer

Eight = Literal["fp8", "int8"]
LARGEST = {"fp8": 448.0, "int8": 127.0}
"""Of float8_e4m3fn and of int8."""
SMALLEST = 2.0**-120
"""Least scale: a row of zeros stays zeros, and the inverse of the scale is finite."""
_FORMS = ((2048, 4), (8192, 8), (16384, 16), (32768, 32))
"""Elements that a program holds, and its warps: 16 to 32 elements a thread. Longer rows are left to torch."""


def quantise_rows_reference(x: Tensor, form: Eight = "fp8") -> tuple[Tensor, Tensor]:
    """`x` [M, K] as float8_e4m3fn or int8 [M, K], to the nearest, ties to even, and scales [M] so that x ≈ q·scale."""
    wide = x.float()
    largest = wide.abs().amax(-1)
    scale = (largest / LARGEST[form]).clamp_min(SMALLEST).where(largest.isfinite(), torch.nan)
    levels = (wide * (1 / scale)[:, None]).clamp_(-LARGEST[form], LARGEST[form]).nan_to_num_(0.0)
    return (levels.to(torch.float8_e4m3fn) if form == "fp8" else levels.round_().to(torch.int8)), scale


@triton.jit(do_not_specialize=["width"])
def _quantise_rows(x, q, scales, width, LARGEST: tl.constexpr, SMALLEST: tl.constexpr, FP8: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    held = at < width
    values = tl.load(x + row * width + at, mask=held, other=0.0).to(tl.float32)
    # the sum is not a number when an element is infinite or not a number, which a maximum may hide
    largest = tl.max(tl.abs(values), 0) + tl.sum(values * 0.0, 0)
    scale = tl.where(largest == largest, tl.maximum(tl.div_rn(largest, LARGEST), SMALLEST), largest)
    levels = values * tl.div_rn(1.0, scale)
    levels = tl.minimum(tl.maximum(tl.where(levels == levels, levels, 0.0), -LARGEST), LARGEST)
    code = e4m3(levels) if FP8 else nearest_integer(levels)
    tl.store(q + row * width + at, code.to(tl.int8), mask=held)
    tl.store(scales + row, scale)


def quantise_rows(x: Tensor, form: Eight = "fp8") -> tuple[Tensor, Tensor]:
    """As the reference, in Triton on a GPU, for floating `x` [.., K]: q [.., K] and scales [..].

    Raises `ValueError` for other types, formats and empty rows.
    """
    if form not in LARGEST or not x.is_floating_point() or x.dim() < 1 or not x.shape[-1]:
        raise ValueError(f"quantise_rows takes floating x [.., K] to fp8 or int8; got x {tuple(x.shape)} {x.dtype} to {form}")
    rows = x.reshape(-1, x.shape[-1]).contiguous()
    if (rows.device.type == "cpu" and not INTERPRETED) or rows.shape[1] > _FORMS[-1][0]:
        q, scales = quantise_rows_reference(rows, form)
    else:
        q, scales = _launch(rows, form)
    return q.view(x.shape), scales.view(x.shape[:-1])


def _launch(rows: Tensor, form: Eight) -> tuple[Tensor, Tensor]:
    q = torch.empty_like(rows, dtype=torch.int8)
    scales = rows.new_empty(rows.shape[0], dtype=torch.float32)
    block, warps = next(known for known in _FORMS if known[0] >= rows.shape[1])
    if rows.shape[0]:
        constants = {"LARGEST": LARGEST[form], "SMALLEST": SMALLEST, "FP8": form == "fp8", "BLOCK": block}
        _quantise_rows[(rows.shape[0],)](rows, q, scales, rows.shape[1], **constants, num_warps=warps)
    return (q.view(torch.float8_e4m3fn) if form == "fp8" else q), scales


def _inputs(m: int, k: int, form: Eight) -> tuple[Tensor, Eight]:
    generator = torch.Generator().manual_seed(m * 7919 + k)
    x = torch.randn(m, k, generator=generator) * torch.logspace(-4, 4, max(m, 1))[:m, None]
    return x.to(torch.bfloat16), form


def _restored(quantised: tuple[Tensor, Tensor]) -> Tensor:
    q, scales = quantised
    return q.double() * scales.double()[:, None]


_TYPES = {"x": "*bf16", "q": "*i8", "scales": "*fp32", "width": "i32"}
KERNEL = Kernel(
    name="quantise-rows",
    reference=lambda x, form: _restored(quantise_rows_reference(x, form)),
    launch=lambda x, form: _restored(quantise_rows(x, form)),
    inputs=_inputs,
    shapes=tuple(
        (m, k, form) for form in ("fp8", "int8") for m, k in ((1, 4096), (3, 1), (7, 100), (5, 2048), (2, 2049), (1, 14336), (0, 64))
    ),
    tolerance=1e-7,  # the same levels, bit for bit
    bytes=lambda m, k, form: m * (3 * k + 4),
    flops=lambda m, k, form: 3 * m * k,
    variants=tuple(
        Variant(
            name=f"{form}-{block}",
            function=_quantise_rows,
            types=_TYPES,
            constants={"LARGEST": LARGEST[form], "SMALLEST": SMALLEST, "FP8": form == "fp8", "BLOCK": block},
            warps=warps,
            stages=3,
            registers=65536 // (32 * warps) if warps > 8 else 255,
        )
        for form in ("fp8", "int8")
        for block, warps in _FORMS
    ),
)
