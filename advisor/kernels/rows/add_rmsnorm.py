"""Residual addition, RMS normalisation and, where eight-bit products follow, rounding to eight bits in one pass over the rows.

Letters: M rows, D elements of a row.
"""

# Triton's functions take blocks, which have no Python type.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

import torch
import triton
import triton.language as tl
from torch import Tensor

from advisor.kernels.kernel import INTERPRETED, Kernel, Variant
from advisor.kernels.rows.quantise_rows import LARGEST, SMALLEST, Eight, quantise_rows_reference
from advisor.kernels.rows.rounding import e4m3, nearest_integer

WIDEST = 32768
"""Longest row that one program holds in registers."""
_TILE = 2048
"""Elements that a program handles at least, where rows are shorter: several rows then."""


def add_rmsnorm_reference(
    x: Tensor, residual: Tensor | None, weight: Tensor, eps: float = 1e-6, plus_one: bool = False
) -> tuple[Tensor, Tensor]:
    """Normalise x + residual over the last dimension: (normed, x + residual), rounded where transformers rounds.

    Llama's norm rounds to the input's type before it multiplies by `weight`; Gemma's (`plus_one`) multiplies by 1 + weight in
    float32 and rounds once (transformers, `LlamaRMSNorm` and `GemmaRMSNorm`). float64 stays float64.
    """
    total = x if residual is None else x + residual
    wide = total if total.dtype == torch.float64 else total.float()
    unit = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    if plus_one:
        return (unit * (1 + weight.to(unit.dtype))).to(total.dtype), total
    return unit.to(total.dtype) * weight.to(total.dtype), total


@triton.jit(do_not_specialize=["rows"])
def _add_rmsnorm(
    x, residual, weight, normed, total, scales, rows, eps,
    WIDTH: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, ADD: tl.constexpr, PLUS_ONE: tl.constexpr,
    LARGEST: tl.constexpr, SMALLEST: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)  # [ROWS]
    column = tl.arange(0, BLOCK)
    at = row.to(tl.int64)[:, None] * WIDTH + column[None, :]  # [ROWS, BLOCK]
    held = (row < rows)[:, None] & (column < WIDTH)[None, :]
    element = x.dtype.element_ty
    values = tl.load(x + at, mask=held, other=0.0).to(tl.float32)
    if ADD:
        values += tl.load(residual + at, mask=held, other=0.0).to(tl.float32)
        rounded = values.to(element)
        tl.store(total + at, rounded, mask=held)
        values = rounded.to(tl.float32)
    unit = values * tl.rsqrt(tl.sum(values * values, 1) / WIDTH + eps)[:, None]
    scale = tl.load(weight + column, mask=column < WIDTH, other=0.0).to(tl.float32)[None, :]
    out = unit * (1.0 + scale) if PLUS_ONE else unit.to(element).to(tl.float32) * scale
    if LARGEST == 0.0:
        tl.store(normed + at, out.to(element), mask=held)
    else:
        codes, steps = _eight_bits(out.to(element).to(tl.float32), LARGEST, SMALLEST)
        tl.store(normed + at, codes, mask=held)
        tl.store(scales + row, steps, mask=row < rows)


@triton.jit
def _eight_bits(values, LARGEST: tl.constexpr, SMALLEST: tl.constexpr):
    """The rounding of `quantise_rows`, for several rows [ROWS, BLOCK]; 448 is the largest of fp8, 127 of int8."""
    largest = tl.max(tl.abs(values), 1) + tl.sum(values * 0.0, 1)
    scale = tl.where(largest == largest, tl.maximum(tl.div_rn(largest, LARGEST + tl.zeros_like(largest)), SMALLEST), largest)
    levels = values * tl.div_rn(1.0 + tl.zeros_like(scale), scale)[:, None]
    levels = tl.minimum(tl.maximum(tl.where(levels == levels, levels, 0.0), -LARGEST), LARGEST)
    code = e4m3(levels) if LARGEST == 448.0 else nearest_integer(levels)
    return code.to(tl.int8), scale


def add_rmsnorm(x: Tensor, residual: Tensor | None, weight: Tensor, eps: float = 1e-6, plus_one: bool = False) -> tuple[Tensor, Tensor]:
    """The same for `x` [.., D], `residual` of its shape or None and `weight` [D]: one launch on a GPU, plain torch on a CPU.

    Without a residual the second tensor is `x` itself. Raises `ValueError` for shapes, types or devices that do not go together.
    """
    _check(x, residual, weight)
    if x.device.type == "cpu":
        return add_rmsnorm_reference(x, residual, weight, eps, plus_one)
    return launch_add_rmsnorm(x, residual, weight, eps, plus_one)


def add_rmsnorm_quantised(
    x: Tensor, residual: Tensor | None, weight: Tensor, form: Eight, eps: float = 1e-6, plus_one: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """`quantise_rows` of the normed rows without writing them: q [.., D] in fp8 or int8, scales [..], and x + residual.

    Raises `ValueError` as `add_rmsnorm` does, and for an unknown form.
    """
    _check(x, residual, weight)
    if form not in LARGEST:
        raise ValueError(f"rows are rounded to {' or '.join(LARGEST)}; got {form}")
    if x.device.type == "cpu":
        normed, total = add_rmsnorm_reference(x, residual, weight, eps, plus_one)
        q, scales = quantise_rows_reference(normed.reshape(-1, normed.shape[-1]), form)
        return q.view(x.shape), scales.view(x.shape[:-1]), total
    return launch_add_rmsnorm_quantised(x, residual, weight, form, eps, plus_one)


def launch_add_rmsnorm(
    x: Tensor, residual: Tensor | None, weight: Tensor, eps: float = 1e-6, plus_one: bool = False
) -> tuple[Tensor, Tensor]:
    """The Triton form, for a GPU or the interpreter."""
    _check(x, residual, weight)
    normed = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    return normed, _launch(x, residual, weight, normed, None, 0.0, eps, plus_one)


def launch_add_rmsnorm_quantised(
    x: Tensor, residual: Tensor | None, weight: Tensor, form: Eight, eps: float = 1e-6, plus_one: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """The Triton form, for a GPU or the interpreter."""
    _check(x, residual, weight)
    q = torch.empty(x.shape, dtype=torch.int8, device=x.device)
    scales = torch.empty(x.shape[:-1], dtype=torch.float32, device=x.device)
    total = _launch(x, residual, weight, q, scales, LARGEST[form], eps, plus_one)
    return q.view(torch.float8_e4m3fn) if form == "fp8" else q, scales, total


def _launch(
    x: Tensor, residual: Tensor | None, weight: Tensor, out: Tensor, scales: Tensor | None, largest: float, eps: float, plus_one: bool
) -> Tensor:
    """Fill `out` and `scales`; returns x + residual."""
    x, residual = x.contiguous(), None if residual is None else residual.contiguous()
    width = x.shape[-1]
    rows = x.numel() // width
    total = x if residual is None else torch.empty_like(x)
    if rows:
        block, per_program, warps = _shape(width)
        _add_rmsnorm[(triton.cdiv(rows, per_program),)](
            x, x if residual is None else residual, weight, out, total, out if scales is None else scales, rows, eps,
            WIDTH=width, BLOCK=block, ROWS=per_program, ADD=residual is not None, PLUS_ONE=plus_one,
            LARGEST=largest, SMALLEST=SMALLEST, num_warps=warps,
        )  # fmt: skip
    return total


def _shape(width: int) -> tuple[int, int, int]:
    """Padded width, rows and warps of a program: 8 to 32 elements a thread up to rows of 8192."""
    block = triton.next_power_of_2(width)
    return block, max(1, _TILE // block), 4 if block <= _TILE else 8 if block <= 8192 else 16


def _check(x: Tensor, residual: Tensor | None, weight: Tensor) -> None:
    given = f"x {tuple(x.shape)} {x.dtype} {x.device}, weight {tuple(weight.shape)} {weight.dtype} {weight.device}"
    if residual is not None:
        given += f", residual {tuple(residual.shape)} {residual.dtype} {residual.device}"
        if residual.shape != x.shape or residual.dtype != x.dtype or residual.device != x.device:
            raise ValueError(f"add_rmsnorm takes a residual of x's shape, type and device; got {given}")
    if not x.is_floating_point() or weight.dtype != x.dtype or weight.device != x.device or not weight.is_contiguous():
        raise ValueError(f"add_rmsnorm takes floating x and a contiguous weight of its type and device; got {given}")
    if x.dim() < 1 or weight.shape != x.shape[-1:] or not 1 <= x.shape[-1] <= WIDEST:
        raise ValueError(f"add_rmsnorm takes x [.., D] and weight [D], D from 1 to {WIDEST}; got {given}")


def _inputs(m: int, d: int, add: bool, plus_one: bool) -> tuple[Tensor, Tensor | None, Tensor, float, bool]:
    generator = torch.Generator().manual_seed(m * 31 + d)
    x, residual = (torch.randn(m, d, generator=generator).half() for _ in range(2))
    weight = torch.randn(d, generator=generator).half()
    return x, residual if add else None, weight, 1e-5, plus_one


def _variant(width: int, *, add: bool = True, plus_one: bool = False, form: Eight | None = None) -> Variant:
    block, rows, warps = _shape(width)
    pointers = {**dict.fromkeys(("x", "residual", "weight", "total"), "*bf16"), "normed": "*i8" if form else "*bf16", "scales": "*fp32"}
    return Variant(
        name=f"{width}{'' if add else '-alone'}{'-gemma' if plus_one else ''}{f'-{form}' if form else ''}",
        function=_add_rmsnorm,
        types={**pointers, "rows": "i32", "eps": "fp32"},
        constants={
            "WIDTH": width,
            "BLOCK": block,
            "ROWS": rows,
            "ADD": add,
            "PLUS_ONE": plus_one,
            "LARGEST": LARGEST[form] if form else 0.0,
            "SMALLEST": SMALLEST,
        },
        warps=warps,
        stages=3,
        registers=128 if width <= 8192 else 64,
        shared_bytes=16 * 1024,
    )


def _both(pair: tuple[Tensor, Tensor]) -> Tensor:
    return torch.stack(pair)


KERNEL = Kernel(
    name="add-rmsnorm",
    reference=lambda *arguments: _both(add_rmsnorm_reference(*arguments)),
    launch=lambda *arguments: _both((launch_add_rmsnorm if arguments[0].is_cuda or INTERPRETED else add_rmsnorm)(*arguments)),
    inputs=_inputs,
    shapes=(
        (1, 4096, True, False),
        (7, 128, False, False),
        (33, 96, True, True),
        (2, 5120, True, False),
        (3, 1, True, False),
        (5, 1000, False, True),
        (0, 64, True, False),
    ),
    tolerance=2e-3,
    bytes=lambda m, d, add, plus_one: 2 * (m * d * (4 if add else 2) + d),
    flops=lambda m, d, add, plus_one: m * d * (5 if add else 4),
    variants=(
        _variant(128, add=False),
        _variant(4096),
        _variant(4096, add=False),
        _variant(5120),
        _variant(8192),
        _variant(16384),
        _variant(2304, plus_one=True),
        _variant(3584, plus_one=True),
        _variant(4096, form="fp8"),
        _variant(4096, form="int8"),
        _variant(5120, form="fp8"),
        _variant(16384, form="fp8"),
    ),
)
