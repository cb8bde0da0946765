"""The products of a decoder: plain linears side by side as one, bf16 weights in the processor's own block order, quantised ones."""

from collections.abc import Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn
from torch.nn import functional

from advisor.backends.model.fused_linear import joined
from advisor.backends.model.quantised_linear import Product, QuantisedLinear
from advisor.kernels.torch_private import blocked_product, has_bf16_blocks, reorder_linear_weight


def product(linears: Sequence[nn.Module], unchanged: frozenset[int], undo: ExitStack) -> Product:
    """The outputs of linears that read the same input, side by side, in one product where their kind allows it.

    Weights whose ids are in `unchanged` stay as they are. What is done to the others' memory, `undo` takes back.
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
    weight = _across([linear.weight.detach() for linear in plain])
    return lambda x: functional.linear(x, weight, biases)


def packs(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether weights of that type are put in oneDNN's block order there: it saves the rearranging that every product does otherwise."""
    return device.type == "cpu" and dtype == torch.bfloat16 and has_bf16_blocks()


def _quantised(linears: Sequence[nn.Module]) -> Product:
    """Joined where they are of one kind."""
    try:
        with torch.inference_mode(False), torch.no_grad():
            whole = joined(linears) if len(linears) > 1 else linears[0]
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
    return packs(weight.device, weight.dtype) and weight.numel() > 0


def _packed(linears: Sequence[nn.Linear], bias: Tensor | None, undo: ExitStack) -> Product:
    """Weights in block order in place of the linears' own, whose memory is given back until `undo`."""
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
    """Move the weights into one memory, unless they lie there already; it stays so, since nothing else changes."""
    weights: list[Tensor] = [linear.weight for linear in linears]
    if _are_adjacent(weights):
        return
    with torch.inference_mode(False), torch.no_grad():
        whole = torch.cat(weights)
        for weight, part in zip(weights, torch.split(whole, [len(weight) for weight in weights]), strict=True):
            weight.data = part


def _are_adjacent(weights: Sequence[Tensor]) -> bool:
    """Whether contiguous matrices follow each other in one memory."""
    offset = weights[0].storage_offset()
    for weight in weights:
        elsewhere = weight.untyped_storage().data_ptr() != weights[0].untyped_storage().data_ptr() or weight.storage_offset() != offset
        if elsewhere or not weight.is_contiguous():
            return False
        offset += weight.numel()
    return True


def _across(weights: Sequence[Tensor]) -> Tensor:
    """One view over adjacent matrices."""
    first = weights[0]
    return first if len(weights) == 1 else first.as_strided((sum(map(len, weights)), first.shape[1]), first.stride())


def _biases(linears: Sequence[nn.Linear]) -> Tensor | None:
    if all(linear.bias is None for linear in linears):
        return None
    like = next(linear.bias for linear in linears if linear.bias is not None)
    parts = [like.new_zeros(linear.out_features) if linear.bias is None else linear.bias.detach() for linear in linears]
    return torch.cat(parts)
