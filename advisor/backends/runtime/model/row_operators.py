"""Row-wise operators of a decoder between its products: plain torch on a CPU, one kernel launch each on a GPU."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Norm:
    """Root-mean-square normalisation, rounded to the input's type before the weight multiplies."""

    weight: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        """Normalise the last dimension."""
        return functional.rms_norm(x, x.shape[-1:], None, self.eps).mul_(self.weight)


@dataclass(frozen=True, slots=True)
class RowOperators:
    """The row-wise operators of a decoder layer."""

    add_norm: Callable[[Tensor, Tensor, Norm], tuple[Tensor, Tensor]]
    """(x, residual) [T, C] to the normalised sum and the sum."""
    gate: Callable[[Tensor, nn.Module], Tensor]
    """Gate and up, concatenated [T, 2F], to activation(gate) · up [T, F]."""


def plain() -> RowOperators:
    """In plain torch."""
    return RowOperators(_add_norm, _gate)


def fused() -> RowOperators:
    """As kernels of one launch each; the gate only where the activation is SiLU."""
    # loads Triton, which machines without a GPU may lack
    from advisor.kernels.rows.add_rmsnorm import add_rmsnorm
    from advisor.kernels.rows.silu_mul import silu_mul

    def gate(both: Tensor, activation: nn.Module) -> Tensor:
        return silu_mul(both) if _is_silu(activation) else _gate(both, activation)

    return RowOperators(lambda x, residual, norm: add_rmsnorm(x, residual, norm.weight, norm.eps), gate)


def _add_norm(x: Tensor, residual: Tensor, norm: Norm) -> tuple[Tensor, Tensor]:
    total = residual + x
    return norm(total), total


def _gate(both: Tensor, activation: nn.Module) -> Tensor:
    half = both.shape[-1] // 2
    out: Tensor = activation(both[:, :half])
    return out.mul_(both[:, half:])


def _is_silu(activation: nn.Module) -> bool:
    return type(activation).__name__ in ("SiLU", "SiLUActivation")
