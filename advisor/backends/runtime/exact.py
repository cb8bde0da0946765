"""The exact ways to compute one attention call, and which of them can. Knows tensors, no cache and no model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from advisor.backends.runtime.store import Batch
from advisor.kernels import paged_attention as kernel

DEVICE_KERNELS = {
    "sdpa-cudnn": SDPBackend.CUDNN_ATTENTION,
    "sdpa-flash": SDPBackend.FLASH_ATTENTION,
    "sdpa-efficient": SDPBackend.EFFICIENT_ATTENTION,
}
"""SDPA's own back ends on a CUDA device; without one of them named it takes the first that can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Attention of queries [N, W, H, D] over what is cached of N sequences."""

    query: Tensor
    cached: tuple[Batch, Batch]
    """Keys and values, L tokens of each sequence."""
    mask: Callable[[], Tensor]
    """Makes the additive mask of `widen_mask`."""
    is_causal: bool
    """Whether it is a whole prompt, from its first token on: then the mask says nothing that its order does not."""
    scale: float
    softcap: float | None = None
    sinks: Tensor | None = None
    turned: Tensor | None = None
    """Queries by which the `first` tokens are scored instead."""
    first: int = 0

    @property
    def is_plain(self) -> bool:
        """Whether it is nothing but a softmax of scaled products: SDPA knows neither soft caps nor sinks nor second queries."""
        return self.softcap is None and self.sinks is None and self.turned is None


Way = Callable[[Call], Tensor]
"""Computes a call: [N, W, H, E]."""


def written_out(call: Call) -> Tensor:
    """Two batched products with the scores in memory between them; computes every call."""
    keys, values = call.cached
    return kernel.written_out(
        call.query,
        keys.rows,
        values.rows,
        call.mask(),
        scale=call.scale,
        softcap=call.softcap,
        sinks=call.sinks,
        key_scales=keys.scales,
        value_scales=values.scales,
        first_query=call.turned,
        first=call.first,
    )


def sdpa(call: Call) -> Tensor:
    """torch's fused kernel; computes plain calls."""
    keys, values = (batch.scaled() for batch in call.cached)
    if not call.is_causal:
        return kernel.fused(call.query, keys, values, call.mask(), scale=call.scale)
    width = call.query.shape[1]
    return kernel.fused(call.query, keys[:, :, :width], values[:, :, :width], None, scale=call.scale)


def ways(call: Call) -> Mapping[str, Way]:
    """Every way that computes this call on its device, by name; the first is taken where nothing was measured."""
    if not call.is_plain:
        return {"written-out": written_out}
    known: dict[str, Way] = {"sdpa": sdpa, "written-out": written_out}
    if call.query.device.type == "cuda":
        known |= {name: _by(kernel) for name, kernel in DEVICE_KERNELS.items()}
    return known


def _by(back_end: SDPBackend) -> Way:
    """SDPA through one of its back ends. Raises `RuntimeError` for a call that it does not take."""

    def run(call: Call) -> Tensor:
        with sdpa_kernel(back_end):
            return sdpa(call)

    return run
