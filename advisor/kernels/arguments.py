"""Checks of the tensors that a launcher is given, by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Wanted = Mapping[str, tuple[Sequence[int] | None, torch.dtype]]
"""Shape and type by name; −1 for any size, no shape for a tensor that must not be there."""


@dataclass(frozen=True, slots=True)
class Given:
    """What a launcher was given, in words only where a message needs them: launches are too short to spell it out each time."""

    tensors: Mapping[str, Tensor | None]

    def __str__(self) -> str:
        """Name, shape, type and device of each."""
        there = ((name, tensor) for name, tensor in self.tensors.items() if tensor is not None)
        return ", ".join(f"{name} {tuple(tensor.shape)} {tensor.dtype} {tensor.device}" for name, tensor in there)


def check(operator: str, given: Mapping[str, Tensor | None], wanted: Wanted, needed: Sequence[str], device: torch.device) -> None:
    """Raise `ValueError` for a tensor that is `needed` and not given, or given and not as `wanted` on `device`."""
    for name, (shape, dtype) in wanted.items():
        tensor = given[name]
        if tensor is None and name not in needed:
            continue
        if tensor is None or shape is None or not _fits(tensor, shape, dtype) or tensor.device != device:
            raise ValueError(f"{operator} takes {name} {shape} {dtype} on {device}; got {Given(given)}")


def check_layout(operator: str, given: Mapping[str, Tensor | None], parts: Mapping[str, int]) -> None:
    """Raise `ValueError` for a tensor that is not contiguous; the first so many dims of those in `parts` may have any stride."""
    for name, tensor in given.items():
        if tensor is not None and not tensor[(slice(1),) * parts.get(name, 0)].is_contiguous():
            raise ValueError(f"{operator} takes a contiguous {name}; got strides {tensor.stride()} of {Given(given)}")


def _fits(tensor: Tensor, shape: Sequence[int], dtype: torch.dtype) -> bool:
    same = len(shape) == tensor.dim() and all(size in (-1, given) for size, given in zip(shape, tensor.shape, strict=True))
    return same and tensor.dtype == dtype
