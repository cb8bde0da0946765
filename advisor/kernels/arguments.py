"""Checks of the tensors that a launcher is called with, by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Expected = Mapping[str, tuple[Sequence[int] | None, torch.dtype]]
"""Shape and type by name: −1 for any size, a shape of `None` for a tensor that must be `None`."""


@dataclass(frozen=True, slots=True)
class Given:
    """A launcher's tensors by name. They are formatted only when a message is, as a launch takes less time than the formatting."""

    tensors: Mapping[str, Tensor | None]

    def __str__(self) -> str:
        """Name, shape, type and device of each tensor that is not `None`."""
        present = ((name, tensor) for name, tensor in self.tensors.items() if tensor is not None)
        return ", ".join(f"{name} {tuple(tensor.shape)} {tensor.dtype} {tensor.device}" for name, tensor in present)


def check(operator: str, given: Mapping[str, Tensor | None], expected: Expected, required: Sequence[str], device: torch.device) -> None:
    """Raise `ValueError` for a `required` tensor that is `None`, and for one whose shape, type or device is not as `expected`."""
    for name, (shape, dtype) in expected.items():
        tensor = given[name]
        if tensor is None and name not in required:
            continue
        if tensor is None or shape is None or not _fits(tensor, shape, dtype) or tensor.device != device:
            raise ValueError(f"{operator} takes {name} {shape} {dtype} on {device}; got {Given(given)}")


def check_layout(operator: str, given: Mapping[str, Tensor | None], free_dims: Mapping[str, int]) -> None:
    """Raise `ValueError` for a tensor that is not contiguous in all but its first `free_dims[name]` dims (default: 0)."""
    for name, tensor in given.items():
        if tensor is not None and not tensor[(slice(1),) * free_dims.get(name, 0)].is_contiguous():
            raise ValueError(f"{operator} takes a contiguous {name}; got strides {tensor.stride()} of {Given(given)}")


def _fits(tensor: Tensor, shape: Sequence[int], dtype: torch.dtype) -> bool:
    same = len(shape) == tensor.dim() and all(size in (-1, given) for size, given in zip(shape, tensor.shape, strict=True))
    return same and tensor.dtype == dtype
