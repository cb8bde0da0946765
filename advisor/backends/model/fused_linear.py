"""Fuses linears of the same input into one product: q, k and v, or gate and up. Loads torch."""

import copy
from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
from torch import nn

from advisor.backends.model.quantised_linear import QuantisedLinear


def fused_linear(linears: Sequence[nn.Module]) -> nn.Module:
    """One linear whose output is the concatenation of those of `linears`, [.., sum of N]; their weights become views of its memory.

    Takes `nn.Linear`s, or quantised ones of one kind and group size, all of one width, type and device. Both can be used afterwards;
    move or convert the model before, because that gives every view memory of its own. Raises `ValueError` for other linears.
    """
    if len(linears) < 2 or len({_kind(linear) for linear in linears}) != 1:
        given = ", ".join(map(repr, linears)) or "none"
        raise ValueError(f"fused_linear takes two or more linears of one kind, width, type and device; got {given}")
    if all(type(linear) is nn.Linear for linear in linears):
        return _fuse_plain([linear for linear in linears if isinstance(linear, nn.Linear)])
    if all(isinstance(linear, QuantisedLinear) for linear in linears):
        return _fuse_quantised([linear for linear in linears if isinstance(linear, QuantisedLinear)])
    raise ValueError(f"fused_linear takes nn.Linear and quantised linears; got {type(linears[0]).__name__}")


def _kind(linear: nn.Module) -> tuple[object, ...]:
    """The properties that fused linears must have in common."""
    weights = [linear.weight] if isinstance(linear, nn.Linear) else linear.buffers()
    tensors = ((weight.dtype, weight.device) for weight in weights)
    return (type(linear), getattr(linear, "in_features", None), getattr(linear, "group_size", None), *tensors)


def _fuse_plain(linears: list[nn.Linear]) -> nn.Linear:
    weight = torch.cat([linear.weight.detach() for linear in linears])
    whole = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta", dtype=weight.dtype)
    whole.weight = nn.Parameter(weight, requires_grad=False)
    whole.register_parameter("bias", _fuse_biases(linears))
    for linear, view in zip(linears, torch.split(weight, [linear.out_features for linear in linears]), strict=True):
        linear.weight = nn.Parameter(view, requires_grad=False)
    return whole.train(linears[0].training)


def _fuse_quantised(linears: list[QuantisedLinear]) -> QuantisedLinear:
    whole = copy.deepcopy(linears[0])
    whole.out_features = sum(linear.out_features for linear in linears)
    whole.bias = _fuse_biases(linears)
    starts = list(accumulate((linear.channels for linear in linears), initial=0))
    whole.real_channels = _merged([(at + a, at + b) for at, linear in zip(starts, linears, strict=False) for a, b in linear.real_channels])
    for name, dimension in whole.channel_dimensions.items():
        tensor = torch.cat([linear.get_buffer(name) for linear in linears], dimension)
        setattr(whole, name, tensor)
        for linear, (start, stop) in zip(linears, pairwise(starts), strict=True):
            setattr(linear, name, tensor.narrow(dimension, start, stop - start))
    return whole


def _merged(ranges: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Ascending ranges, adjacent ones merged."""
    merged: list[tuple[int, int]] = []
    for start, stop in ranges:
        if merged and merged[-1][1] == start:
            merged[-1] = (merged[-1][0], stop)
        else:
            merged.append((start, stop))
    return tuple(merged)


def _fuse_biases(linears: Sequence[nn.Linear | QuantisedLinear]) -> nn.Parameter | None:
    """The biases concatenated, zeros for linears without one; `None` where none has one."""
    like = next((linear.bias for linear in linears if linear.bias is not None), None)
    if like is None:
        return None
    parts = [like.new_zeros(linear.out_features) if linear.bias is None else linear.bias.detach() for linear in linears]
    return nn.Parameter(torch.cat(parts), requires_grad=False)
