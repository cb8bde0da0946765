"""Matrix products of a decoder: linears of the same input fused, bf16 weights packed in oneDNN's block order, quantised weights."""

from collections.abc import Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn
from torch.nn import functional

from advisor.backends.model.fused_linear import fused_linear
from advisor.backends.model.quantised_linear import Product, QuantisedLinear
from advisor.kernels.torch_private import blocked_product, has_bf16_blocks, reorder_linear_weight


def product(linears: Sequence[nn.Module], unchanged: frozenset[int], undo: ExitStack) -> Product:
    """A function that returns the concatenated outputs of linears of the same input, computed in one product where their kind allows it.

    Weights whose ids are in `unchanged` are not packed or moved. Changes to the memory of others are reverted by `undo`.
    """
    if not all(type(linear) is nn.Linear for linear in linears):
        return _quantised(linears)
    plain = [linear for linear in linears if isinstance(linear, nn.Linear)]
    biases = _biases(plain)
    if not any(id(linear.weight) in unchanged for linear in plain):
        if _packs(plain[0].weight):
            return _packed(plain, biases, undo)
        if len(plain) > 1:
            _lay_side_by_side(plain)
    if len(plain) > 1 and not _are_adjacent([linear.weight for linear in plain]):
        return _apart(linears)
    weight = _view_across([linear.weight.detach() for linear in plain])
    return lambda x: functional.linear(x, weight, biases)


def is_packed_on(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether weights of that type are packed in oneDNN's block order on the device: otherwise every product packs them again."""
    return device.type == "cpu" and dtype == torch.bfloat16 and has_bf16_blocks()


def _quantised(linears: Sequence[nn.Module]) -> Product:
    """One fused product where the linears are of one kind."""
    try:
        with torch.inference_mode(False), torch.no_grad():
            whole = fused_linear(linears) if len(linears) > 1 else linears[0]
    except ValueError:
        return _apart(linears)
    raw = whole.raw_product() if isinstance(whole, QuantisedLinear) else None
    if raw is None:
        return lambda x: whole(x)
    most, run = raw
    return lambda x: run(x) if x.shape[0] <= most and x.dtype == torch.bfloat16 and x.is_contiguous() else whole(x)


def _apart(linears: Sequence[nn.Module]) -> Product:
    if len(linears) == 1:
        only = linears[0]
        return lambda x: only(x)
    return lambda x: torch.cat([linear(x) for linear in linears], -1)


def _packs(weight: Tensor) -> bool:
    return is_packed_on(weight.device, weight.dtype) and weight.numel() > 0


def _packed(linears: Sequence[nn.Linear], bias: Tensor | None, undo: ExitStack) -> Product:
    """Packed weights that replace the linears' own, whose memory is freed until `undo`."""
    with torch.inference_mode(False), torch.no_grad():
        weights: list[Tensor] = [linear.weight for linear in linears]
        packed = reorder_linear_weight(torch.cat(weights) if len(weights) > 1 else weights[0])
        rows = [len(linear.weight) for linear in linears]
        for weight in weights:
            weight.data = weight.new_empty((0, weight.shape[1]))
    undo.callback(_unpack, weights, packed, rows)
    return blocked_product(packed, bias)


def _unpack(weights: Sequence[Tensor], packed: Tensor, rows: Sequence[int]) -> None:
    with torch.inference_mode(False), torch.no_grad():
        dense = packed.to_dense()
        for weight, part in zip(weights, torch.split(dense, list(rows)), strict=True):
            weight.data = part if len(rows) == 1 else part.clone()


def _lay_side_by_side(linears: Sequence[nn.Linear]) -> None:
    """Move the weights into one tensor, unless they are adjacent already. This is not undone, as it changes no value."""
    weights: list[Tensor] = [linear.weight for linear in linears]
    if _are_adjacent(weights):
        return
    with torch.inference_mode(False), torch.no_grad():
        whole = torch.cat(weights)
        for weight, part in zip(weights, torch.split(whole, [len(weight) for weight in weights]), strict=True):
            weight.data = part


def _are_adjacent(weights: Sequence[Tensor]) -> bool:
    """Whether contiguous matrices are adjacent in memory."""
    offset = weights[0].storage_offset()
    for weight in weights:
        elsewhere = weight.untyped_storage().data_ptr() != weights[0].untyped_storage().data_ptr() or weight.storage_offset() != offset
        if elsewhere or not weight.is_contiguous():
            return False
        offset += weight.numel()
    return True


def _view_across(weights: Sequence[Tensor]) -> Tensor:
    """One view over adjacent matrices."""
    first = weights[0]
    return first if len(weights) == 1 else first.as_strided((sum(map(len, weights)), first.shape[1]), first.stride())


def _biases(linears: Sequence[nn.Linear]) -> Tensor | None:
    if all(linear.bias is None for linear in linears):
        return None
    like = next(linear.bias for linear in linears if linear.bias is not None)
    parts = [like.new_zeros(linear.out_features) if linear.bias is None else linear.bias.detach() for linear in linears]
    return torch.cat(parts)
