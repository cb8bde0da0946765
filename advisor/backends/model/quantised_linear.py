"""Weight-only quantised linears, and the replacement of a model's linears by them. Loads torch."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, Self

import torch
from torch import nn

from advisor.backends.model.linear_like import as_linear, is_linear_like
from advisor.backends.model.quantised_experts import quantise_experts, unquantisable_experts
from advisor.kernels import torch_private
from advisor.kernels.linear import int8_linear as int8
from advisor.kernels.linear import int8_packing
from advisor.kernels.linear.int4_linear import PACKED_ROWS, int4_linear, int4_product
from advisor.kernels.linear.int4_packing import Layout, lay_out, quantise_int4
from advisor.kernels.torch_private import INT4_GROUP_SIZES
from advisor.profiles.errors import AdvisorError, ExitCode
from advisor.profiles.formats import FORMATS

Product = Callable[[torch.Tensor], torch.Tensor]
"""[T, inputs] to [T, outputs]."""
SKIPPED_NAMES = ("lm_head", "gate", "router", "shared_expert_gate")
"""Output heads and router matrices: small, and sensitive to rounding."""


class QuantisedLinear(nn.Module):
    """A linear layer whose weights are integers. Activations are rounded to bf16 on a CPU; the result has their type."""

    channel_dimensions: ClassVar[dict[str, int]]
    """By buffer: its dimension of output channels."""
    packed_rows: ClassVar[int]
    """Most rows that a CPU multiplies without converting the weights."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias: nn.Parameter | None = linear.bias
        self.weight_dtype = linear.weight.dtype
        self.real_channels: tuple[tuple[int, int], ...] = ((0, linear.out_features),)
        """Ranges of output channels that are not padding."""

    @property
    def weight(self) -> torch.Tensor:
        """The weights [out_features, in_features] in their original type, for model code that reads them itself."""
        rows = torch.eye(self.in_features, dtype=self.weight_dtype, device=next(self.buffers()).device)
        bias, self.bias = self.bias, None
        try:
            weight: torch.Tensor = self(rows).t()
        finally:
            self.bias = bias
        return weight

    @property
    def channels(self) -> int:
        """Output channels with padding."""
        name, dimension = next(iter(self.channel_dimensions.items()))
        return self.get_buffer(name).shape[dimension]

    def lay_out(self) -> None:
        """Convert the weights to the layout that the kernels of their device require."""
        raise NotImplementedError

    def raw_product(self) -> tuple[int, Product] | None:
        """The CPU's operator itself, and the most rows of contiguous bf16 that it takes; `None` where padding or a bias remain.

        A module's call and the checks of `forward` take as long as a small product.
        """
        return None

    def _is_unpadded(self, columns: int) -> bool:
        on_cpu = next(self.buffers()).device.type == "cpu"
        return on_cpu and self.bias is None and columns == self.in_features and self.channels == self.out_features

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Self:
        """As `nn.Module._apply`, which `to` and `cuda` call; then converts the weights to the layout of their device."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.lay_out()
        return self

    def _finish(self, out: torch.Tensor) -> torch.Tensor:
        """Drop padded channels, add the bias."""
        if out.shape[-1] != self.out_features:
            out = torch.cat([out[..., start:stop] for start, stop in self.real_channels], dim=-1)
        return out if self.bias is None else out + self.bias.to(out.dtype)

    def _padded(self, x: torch.Tensor, columns: int) -> torch.Tensor:
        """`x` with zeros up to the columns that the weights were padded to."""
        if x.shape[-1] != self.in_features:
            raise ValueError(f"{type(self).__name__} takes {self.in_features} input features; got x of shape {tuple(x.shape)}")
        return x if columns == self.in_features else nn.functional.pad(x, (0, columns - self.in_features))

    def extra_repr(self) -> str:
        """As `nn.Linear` prints itself."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Int8Linear(QuantisedLinear):
    """Int8 weights, one scale per output channel."""

    channel_dimensions: ClassVar[dict[str, int]] = {"q": 0, "scale": 0}
    packed_rows: ClassVar[int] = int8.PACKED_ROWS

    q: torch.Tensor
    scale: torch.Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear)
        q, scale = int8_packing.quantise_int8(linear.weight.detach())
        self.register_buffer("q", q)
        self.register_buffer("scale", scale)
        self.lay_out()

    def lay_out(self) -> None:
        """See `QuantisedLinear`."""
        words = layout_of(self.q.device) == "words"
        if self.q.device.type != "meta" and words != (self.q.dtype == torch.int16):
            self.q = int8_packing.pack_words(self.q) if words else int8_packing.unpack_words(self.q)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x` [.., in_features] to [.., out_features]."""
        q, scale = self.q, self.scale
        product = int8.int8_linear if q.dtype == torch.int16 else int8.int8_product
        return self._finish(product(self._padded(x, q.shape[1] * q.element_size()), q, scale))

    def raw_product(self) -> tuple[int, Product] | None:
        """See `QuantisedLinear`."""
        q, scale = self.q, self.scale
        if q.dtype != torch.int8 or not self._is_unpadded(q.shape[1]):
            return None
        return int8.PACKED_ROWS, torch_private.int8_product(q, scale)


class Int4Linear(QuantisedLinear):
    """Int4 weights, a scale and a zero per group of `group_size` inputs."""

    channel_dimensions: ClassVar[dict[str, int]] = {"packed": 0, "scale_zero": 1}
    packed_rows: ClassVar[int] = PACKED_ROWS

    packed: torch.Tensor
    scale_zero: torch.Tensor

    def __init__(self, linear: nn.Linear, group_size: int) -> None:
        super().__init__(linear)
        self.group_size = group_size
        packed, scale_zero = quantise_int4(linear.weight.detach(), group_size, layout_of(linear.weight.device))
        self.register_buffer("packed", packed)
        self.register_buffer("scale_zero", scale_zero)

    def lay_out(self) -> None:
        """See `QuantisedLinear`."""
        layout = layout_of(self.packed.device)
        if self.packed.device.type != "meta" and (layout == "words") != (self.packed.dtype == torch.int16):
            self.packed, self.scale_zero = lay_out(self.packed, self.scale_zero, layout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x` [.., in_features] to [.., out_features]."""
        packed, scale_zero = self.packed, self.scale_zero
        product = int4_linear if packed.dtype == torch.int16 else int4_product
        return self._finish(product(self._padded(x, packed.shape[1] * packed.element_size() * 2), packed, scale_zero))

    def raw_product(self) -> tuple[int, Product] | None:
        """See `QuantisedLinear`."""
        packed, scale_zero = self.packed, self.scale_zero.contiguous()
        if packed.dtype != torch.uint8 or not self._is_unpadded(2 * packed.shape[1]):
            return None
        group_size = self.in_features // scale_zero.shape[0]
        return PACKED_ROWS, torch_private.int4_product(packed, group_size, scale_zero)

    def extra_repr(self) -> str:
        """As `nn.Linear` prints itself, with the group."""
        return f"{super().extra_repr()}, group_size={self.group_size}"


def layout_of(device: torch.device) -> Layout:
    """Layout of integer weights on a device: words for the GPU kernels, else that of torch's CPU operators."""
    return "words" if device.type == "cuda" else "operator"


def quantise_linears(
    model: nn.Module, weight_format: str, group_size: int | None, skipped_names: tuple[str, ...] = SKIPPED_NAMES, *, head: bool = False
) -> int:
    """Swap the linears of `model` in place, freeing each before the next, then those of experts; returns how many matrices were swapped.

    Not swapped: names in `skipped_names` (whole or any part), the output head unless `head` is true, and weights shared with an
    embedding. `group_size` `None` means the format's own. Raises `AdvisorError` for an unknown format or group size, for a model without
    linears, and for one with a matrix that is multiplied in a way of its own.
    """
    group = _checked_group(weight_format, group_size)

    def quantise(linear: nn.Linear) -> QuantisedLinear:
        return Int8Linear(linear) if weight_format == "int8" else Int4Linear(linear, group)

    groups = list(_swappable(model, skipped_names, with_head=head))
    _check_quantisable(model, [names[0] for names in groups], weight_format)
    for names in groups:
        linear = as_linear(model.get_submodule(names[0]))
        assert linear is not None, "checked"
        new = quantise(linear)
        new.train(linear.training)
        for name in names:
            model.set_submodule(name, new)
        del linear
    swapped = len(groups)
    swapped += quantise_experts(model, quantise)
    if not swapped:
        raise AdvisorError("nothing-to-quantise", f"{type(model).__name__} has no linear layer to store in {weight_format}")
    return swapped


def weight_bytes(model: nn.Module) -> dict[str, int]:
    """Bytes of parameters and buffers by kind, shared memory counted once.

    Kinds: `embedding`, `head`, `linear` (matrices, in whatever format), `scales` (with zeros), `other` (norms, biases, tables).
    """
    sizes: dict[str, int] = dict.fromkeys(("embedding", "head", "linear", "scales", "other"), 0)
    seen: set[tuple[torch.device, int]] = set()
    # embeddings first: a tied matrix counts as one
    modules = sorted(model.modules(), key=lambda module: not isinstance(module, nn.Embedding))
    head = _head(model)
    for module in modules:
        for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            storage = tensor.untyped_storage()
            if (tensor.device, storage.data_ptr()) not in seen:
                seen.add((tensor.device, storage.data_ptr()))
                sizes[_kind(module, name, head)] += storage.nbytes()
    return sizes


def _checked_group(weight_format: str, group_size: int | None) -> int:
    if weight_format not in ("int8", "int4"):
        raise AdvisorError(
            "unknown-format", f"linears cannot be stored in `{weight_format}`", exit_code=ExitCode.USAGE, help=("choose from int8, int4",)
        )
    group = FORMATS["int4"].group_size if group_size is None else group_size
    if group not in INT4_GROUP_SIZES:
        allowed = "choose from " + ", ".join(map(str, INT4_GROUP_SIZES))
        raise AdvisorError("bad-group-size", f"int4 weights have no groups of {group_size}", exit_code=ExitCode.USAGE, help=(allowed,))
    return group


def _swappable(model: nn.Module, skipped_names: tuple[str, ...], *, with_head: bool) -> Iterator[list[str]]:
    """All names of each linear to swap. Only names and ids are held, so that a swapped linear can be freed."""
    names: dict[int, list[str]] = defaultdict(list)
    embedding_weights = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    head = _head(model)
    for name, module in model.named_modules(remove_duplicate=False):
        if not is_linear_like(module) or not name or id(module.weight) in embedding_weights:
            continue
        named = name in skipped_names or not set(name.split(".")).isdisjoint(skipped_names)
        if with_head if module is head else not named:
            names[id(module)].append(name)
    del head
    yield from names.values()


def _check_quantisable(model: nn.Module, names: Iterable[str], weight_format: str) -> None:
    """Raise `AdvisorError` `linear-not-quantisable` for a matrix that is neither a linear's nor in a stack of experts."""
    matrices = [name for name in names if as_linear(model.get_submodule(name)) is None] or unquantisable_experts(model)
    if matrices:
        raise AdvisorError(
            "linear-not-quantisable",
            f"{type(model).__name__} multiplies by {matrices[0]} in a way of its own, not as a linear; it cannot be stored in "
            f"{weight_format}",
            exit_code=ExitCode.MISSING,
            help=(f"plan without it: --forbid weights-{weight_format}",),
        )


def _head(model: nn.Module) -> Any:
    """The output head that a transformers model names, if any."""
    named = getattr(model, "get_output_embeddings", None)
    return named() if named else None


def _kind(module: nn.Module, name: str, head: object) -> str:
    if isinstance(module, nn.Embedding):
        return "embedding"
    if module is head:
        return "head"
    if isinstance(module, QuantisedLinear):
        return {"q": "linear", "packed": "linear", "scale": "scales", "scale_zero": "scales"}.get(name, "other")
    return "linear" if is_linear_like(module) and name == "weight" else "other"
