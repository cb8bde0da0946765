"""The gate of a gated MLP: silu of the first half of each row times the second half.

Letters: T rows, F elements of a half.
"""

# Triton's functions take blocks, which have no Python type.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional

from advisor.kernels.kernel import INTERPRETED, Kernel, Variant

_BLOCK = 1024
"""Elements of the output that a program writes: 16-byte loads for each of 128 threads in two-byte types."""


def silu_mul_reference(gate_up: Tensor) -> Tensor:
    """silu(gate) · up of `gate_up` [.., 2F] in plain torch: [.., F]. silu(gate) is rounded before the product, as in transformers."""
    gate, up = gate_up.chunk(2, -1)
    return functional.silu(gate) * up


@triton.jit
def _silu_mul(gate_up, out, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < WIDTH
    gate = tl.load(gate_up + row * (2 * WIDTH) + column, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_up + row * (2 * WIDTH) + WIDTH + column, mask=inside, other=0.0).to(tl.float32)
    element = out.dtype.element_ty
    silu = (gate / (1.0 + tl.exp(-gate))).to(element).to(tl.float32)
    tl.store(out + row * WIDTH + column, (silu * up).to(element), mask=inside)


def silu_mul(gate_up: Tensor) -> Tensor:
    """silu(gate) · up of floating `gate_up` [.., 2F], gate first: [.., F] in the same type; one launch on a GPU, plain torch on a CPU.

    Raises `ValueError` for integers and for an odd or empty last dimension.
    """
    _check(gate_up)
    if gate_up.device.type == "cpu" and not INTERPRETED:
        return silu_mul_reference(gate_up)
    gate_up = gate_up.contiguous()
    width = gate_up.shape[-1] // 2
    out = gate_up.new_empty(*gate_up.shape[:-1], width)
    if out.numel():
        grid = (out.numel() // width, triton.cdiv(width, _BLOCK))
        _silu_mul[grid](gate_up, out, WIDTH=width, BLOCK=_BLOCK, num_warps=4)
    return out


def _check(gate_up: Tensor) -> None:
    if not gate_up.is_floating_point() or gate_up.dim() < 1 or gate_up.shape[-1] % 2 or not gate_up.shape[-1]:
        raise ValueError(f"silu_mul takes floating [.., 2F]; got {tuple(gate_up.shape)} {gate_up.dtype}")


def _inputs(t: int, f: int) -> tuple[Tensor]:
    generator = torch.Generator().manual_seed(t * 31 + f)
    return ((torch.randn(t, 2 * f, generator=generator) * 3).half(),)


def _variant(width: int) -> Variant:
    return Variant(
        name=str(width),
        function=_silu_mul,
        types={"gate_up": "*bf16", "out": "*bf16"},
        constants={"WIDTH": width, "BLOCK": _BLOCK},
        warps=4,
        stages=3,
        registers=64,
        shared_bytes=0,
    )


KERNEL = Kernel(
    name="silu-mul",
    reference=silu_mul_reference,
    launch=silu_mul,
    inputs=_inputs,
    shapes=((1, 14336), (3, 1), (5, 1000), (17, 96), (2, 2049), (0, 64)),
    tolerance=2e-3,
    bytes=lambda t, f: 2 * 3 * t * f,
    flops=lambda t, f: 5 * t * f,
    variants=(_variant(14336), _variant(768), _variant(11008)),
)
