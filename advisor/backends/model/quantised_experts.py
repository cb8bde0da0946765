"""Experts whose stacked weights are integers: the model's own code runs, its products are those of quantised linears. Loads torch.

Transformers 5 stores the experts of a layer as one parameter [E, N, K], or [E, K, N] transposed, and indexes it by expert.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

QuantiseLinear = Callable[[nn.Linear], nn.Module]
_MATMULS = {torch.matmul, torch.mm, Tensor.matmul, Tensor.mm}
_BATCHED = {torch.matmul, torch.bmm, Tensor.matmul, Tensor.bmm}


@dataclass(frozen=True, slots=True)
class ExpertWeight:
    """The quantised weight of one expert where the model's code expects a matrix: as [N, K], or [K, N] transposed.

    Takes part in `functional.linear` and in products from the right; other operations raise `TypeError`.
    """

    linear: nn.Module
    is_transposed: bool

    @property
    def shape(self) -> torch.Size:
        """Shape of the matrix that it stands for."""
        n, k = _features(self.linear)
        return torch.Size((k, n) if self.is_transposed else (n, k))

    @property
    def T(self) -> "ExpertWeight":  # noqa: N802  # torch's name
        """The matrix transposed."""
        return ExpertWeight(self.linear, not self.is_transposed)

    def t(self) -> "ExpertWeight":
        """The matrix transposed."""
        return self.T

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Tensor:
        """The product of `args[0]` [.., K] with the weight `args[1]`, plus the bias [N] of `functional.linear`: [.., N]."""
        x, weight, bias = _operands(args, kwargs or {})
        as_linear = function is nn.functional.linear
        if not isinstance(weight, cls) or not isinstance(x, Tensor) or not (as_linear or function in _MATMULS):
            raise TypeError(f"quantised expert weights take part in linear and matmul only, not in {function}")
        if weight.is_transposed == as_linear:
            raise TypeError(f"an expert weight of shape {tuple(weight.shape)} is laid out the other way round for {function}")
        out = _in_few_shapes(weight.linear, x)
        return out if bias is None else out + bias


@dataclass(frozen=True, slots=True)
class ExpertWeights:
    """The quantised weights of all experts where the model's code expects a tensor [E, N, K], or [E, K, N] transposed.

    Is indexed by expert, takes part in `torch.bmm` from the right; other operations raise `TypeError`.
    """

    linears: Sequence[nn.Module]
    is_transposed: bool

    @property
    def shape(self) -> torch.Size:
        """Shape of the tensor that it stands for."""
        return torch.Size((len(self.linears), *self[0].shape))

    def __getitem__(self, expert: int | Tensor) -> ExpertWeight:
        return ExpertWeight(self.linears[int(expert)], self.is_transposed)

    def transpose(self, first: int, second: int) -> "ExpertWeights":
        """The weights with rows and columns exchanged. Raises `TypeError` for other dimensions."""
        if {first % 3, second % 3} != {1, 2}:
            raise TypeError(f"the dimension of experts is not transposed, but dimensions {first} and {second} were given")
        return ExpertWeights(self.linears, not self.is_transposed)

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Tensor:
        """`args[0]` [E, T, K] times the weights `args[1]`, expert by expert: [E, T, N]."""
        x, weights, _ = _operands(args, kwargs or {})
        if function not in _BATCHED or not isinstance(x, Tensor) or not isinstance(weights, ExpertWeights | ExpertStack):
            raise TypeError(f"quantised experts are indexed by expert or take part in bmm from the right, not in {function}")
        return torch.stack([rows @ weights[expert] for expert, rows in enumerate(x)])


class ExpertStack(nn.Module):
    """The weights of all experts of a layer in place of one parameter: what `ExpertWeights` does, as a module that can be moved."""

    def __init__(self, linears: Sequence[nn.Module], *, is_transposed: bool) -> None:
        super().__init__()
        self.linears = nn.ModuleList(linears)
        self.weights = ExpertWeights(tuple(self.linears), is_transposed)

    @property
    def shape(self) -> torch.Size:
        """Shape of the parameter that it replaces."""
        return self.weights.shape

    def __getitem__(self, expert: int | Tensor) -> ExpertWeight:
        return self.weights[expert]

    def transpose(self, first: int, second: int) -> ExpertWeights:
        """See `ExpertWeights`."""
        return self.weights.transpose(first, second)

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Tensor:
        """See `ExpertWeights`."""
        return ExpertWeights.__torch_function__(function, types, args, kwargs)


def quantise_experts(model: nn.Module, quantise: QuantiseLinear) -> int:
    """Replace every stacked parameter of experts in `model` by a stack of `quantise`d linears, in place; returns the number of matrices.

    The model's own code for a loop over experts is selected, because fused implementations read the parameter itself.
    """
    swapped = 0
    for module, names in list(_stacked(model)):
        is_transposed = _is_transposed(module)
        for name in names:
            swapped += _swap(module, name, is_transposed, quantise)
    select = getattr(model, "set_experts_implementation", None)
    if swapped and select is not None:
        select("eager")
    return swapped


def _stacked(model: nn.Module) -> Iterator[tuple[nn.Module, list[str]]]:
    """The modules with stacked weights of experts, and the names of those parameters."""
    for module in model.modules():
        parameters = [(name, parameter) for name, parameter in module.named_parameters(recurse=False) if parameter.ndim == 3]
        names = [name for name, _ in parameters if name.endswith("_proj") or (name == "weight" and hasattr(module, "num_experts"))]
        if names:
            yield module, names


def unquantisable_experts(model: nn.Module) -> list[str]:
    """Names of matrices within `experts` that belong to no linear and to no stack, and so are not quantised."""
    matrices = (name for name, parameter in model.named_parameters() if parameter.ndim == 2)
    return [name for name in matrices if _is_unquantisable(model, name)]


def _is_unquantisable(model: nn.Module, name: str) -> bool:
    holder, _, own = name.rpartition(".")
    return "experts" in holder.split(".") and not own.endswith("bias") and not hasattr(model.get_submodule(holder), "in_features")


def _swap(module: nn.Module, name: str, is_transposed: bool, quantise: QuantiseLinear) -> int:
    """Replace one parameter [E, N, K], or [E, K, N] transposed, and free it; returns E."""
    parameter = module.get_parameter(name)
    matrices = (matrix.detach().t().contiguous() if is_transposed else matrix.detach() for matrix in parameter)
    stack = ExpertStack([quantise(_linear(matrix)) for matrix in matrices], is_transposed=is_transposed)
    delattr(module, name)
    setattr(module, name, stack.train(module.training))
    return len(stack.linears)


def _linear(weight: Tensor) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    linear.weight = nn.Parameter(weight, requires_grad=False)
    return linear


def _is_transposed(module: nn.Module) -> bool:
    """Whether stacks are [E, K, N]: as transformers' decorator of experts says, else as the shapes of gate, up and down fit together."""
    stated = getattr(module, "is_transposed", None)
    if stated is not None:
        return bool(stated)
    gate_up, down = (getattr(module, name, None) for name in ("gate_up_proj", "down_proj"))
    if not isinstance(gate_up, Tensor) or not isinstance(down, Tensor):
        return False
    return gate_up.shape[1] == down.shape[2] and gate_up.shape[2] == 2 * down.shape[1]


def _operands(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, Any, Tensor | None]:
    """Input, weight and bias of a call of `functional.linear` or of a product."""
    given = dict(zip(("input", "weight", "bias"), args, strict=False)) | dict(kwargs)
    return given.get("input"), given.get("weight", given.get("other", given.get("mat2"))), given.get("bias")


def _in_few_shapes(linear: Any, x: Tensor) -> Tensor:
    """The linear's output for `x` [.., K], on a CPU computed for a rounded number of rows.

    Routing gives every expert another number of rows in every step, and oneDNN generates code for each new shape, which takes as long as
    a small product.
    """
    rows = x.shape[0]
    extra = _rounded(rows) - rows if x.ndim == 2 and x.device.type == "cpu" and rows > linear.packed_rows else 0
    out: Tensor = linear(nn.functional.pad(x, (0, 0, 0, extra)))[:rows] if extra else linear(x)
    return out


def _rounded(rows: int) -> int:
    """`rows` rounded up to four steps an octave, at least 16."""
    step = max(16, 1 << max(rows.bit_length() - 3, 0))
    return -(-rows // step) * step


def _features(linear: Any) -> tuple[int, int]:
    """Output and input features."""
    return linear.out_features, linear.in_features
