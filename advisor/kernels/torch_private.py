"""The private functions and operators of torch that the kernels call; no other module of the package calls any.

Tested with torch 2.13.0, its CPU build. Operators are looked up at the first call, as builds may lack those of oneDNN.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

INT4_GROUP_SIZES = (32, 64, 128, 256)
"""Input channels per scale and zero that the int4 product accepts."""
INT4_CHANNELS = 64
"""Output channels of the int4 product's widest block; a remainder is packed in another order and multiplied slowly."""
INT8_INPUTS = 16
"""Input channels that the int8 product reads at a time. It does not check: other K read past the end and crash."""

LinearOperator = Callable[[Tensor], Tensor]
"""bf16 activations [M, K] to bf16 [M, N]."""


def int8_product(q: Tensor, scale: Tensor) -> LinearOperator:
    """`aten::_weight_int8pack_mm`: activations times int8 `q` [N, K] transposed, times bf16 `scale` [N]; on a CPU.

    K has to be a multiple of `INT8_INPUTS`, and every tensor contiguous: none of this is checked.
    """
    operator: Any = torch.ops.aten._weight_int8pack_mm.default
    return lambda rows: operator(rows, q, scale)


def int4_product(packed: Tensor, group_size: int, scale_zero: Tensor) -> LinearOperator:
    """`aten::_weight_int4pack_mm_for_cpu`: activations times the weights (nibble − 8)·scale + zero, on a CPU.

    `packed` is [N, K/2] of `pack_int4`, `scale_zero` bf16 [K/group_size, N, 2], read as if it were contiguous.
    """
    operator: Any = torch.ops.aten._weight_int4pack_mm_for_cpu.default
    return lambda rows: operator(rows, packed, group_size, scale_zero)


def pack_int4(nibbles: Tensor) -> Tensor:
    """`aten::_convert_weight_to_int4pack_for_cpu`: int32 `nibbles` [N, K] of 0 to 15 on a CPU as uint8 [N, K/2].

    The order of the nibbles depends on the processor's vector instructions.
    """
    packed: Tensor = torch.ops.aten._convert_weight_to_int4pack_for_cpu(nibbles, 1)
    return packed


def has_bf16_blocks() -> bool:
    """Whether oneDNN multiplies bf16 on this processor, so that weights may be kept in its block order."""
    is_built_in: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return is_built_in and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def reorder_linear_weight(weight: Tensor) -> Tensor:
    """`mkldnn::_reorder_linear_weight`: `weight` [N, K] in oneDNN's block order; `to_dense` gives the same values back."""
    blocked: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, None)
    return blocked


def blocked_product(blocked: Tensor, bias: Tensor | None) -> LinearOperator:
    """`mkldnn::_linear_pointwise`: activations times a weight of `reorder_linear_weight` transposed, plus `bias` [N]."""
    operator: Any = torch.ops.mkldnn._linear_pointwise.default
    return lambda rows: operator(rows, blocked, bias, "none", [], None)


def recompile_limit(shapes: int) -> AbstractContextManager[None]:
    """Context in which `torch._dynamo.config.recompile_limit` is at least `shapes`: beyond it, torch runs new shapes uncompiled."""
    limit: AbstractContextManager[None] = torch._dynamo.config.patch(recompile_limit=shapes)
    return limit
