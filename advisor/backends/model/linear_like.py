"""Modules that compute what `nn.Linear` does under another class: subclasses, and transformers' `Conv1D` with its weight transposed."""

import torch
from torch import Tensor, nn

_PROBE_ROWS = 3


def is_linear_like(module: nn.Module) -> bool:
    """Whether the module is `nn.Linear`, a subclass, or has the shape of `Conv1D`: a weight [nx, nf] and its `nf`."""
    weight = getattr(module, "weight", None)
    return isinstance(module, nn.Linear) or (isinstance(weight, nn.Parameter) and weight.ndim == 2 and hasattr(module, "nf"))


def as_linear(module: nn.Module) -> nn.Linear | None:
    """The module itself if it is `nn.Linear`, else a linear of the same weight and bias that gives the same outputs.

    `None` where it does not, tried on random rows.
    """
    if type(module) is nn.Linear:
        return module
    weight = module.weight
    assert isinstance(weight, Tensor), "see is_linear_like"
    matrix = weight.detach() if isinstance(module, nn.Linear) else weight.detach().t().contiguous()
    linear = nn.Linear(matrix.shape[1], matrix.shape[0], bias=False, device="meta")
    linear.weight = nn.Parameter(matrix, requires_grad=False)
    linear.register_parameter("bias", getattr(module, "bias", None))
    return linear.train(module.training) if _agree(module, linear) else None


@torch.no_grad()
def _agree(module: nn.Module, linear: nn.Linear) -> bool:
    weight = linear.weight
    x = torch.linspace(-1, 1, _PROBE_ROWS * weight.shape[1], dtype=weight.dtype, device=weight.device).view(_PROBE_ROWS, -1)
    try:
        theirs = module(x)
    except (RuntimeError, TypeError, ValueError):  # it takes another shape or further arguments
        return False
    ours = linear(x)
    if not isinstance(theirs, Tensor) or theirs.shape != ours.shape:
        return False
    return torch.allclose(ours.float(), theirs.float(), rtol=1e-2, atol=1e-2 * float(ours.abs().max()))
