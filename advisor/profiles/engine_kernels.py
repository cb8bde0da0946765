"""Kernels of an engine's own, for one maker's devices: what they reach instead of the makers' libraries."""

from statistics import geometric_mean

from pydantic import Field

from advisor.profiles.frozen import Frozen


class Kernels(Frozen):
    """Products and attention of one backend of an engine. Shares are of the data sheet's figures."""

    layer_s: float = Field(ge=0)
    """Launches and element-wise operators of a layer that decodes."""
    read: float = Field(gt=0, le=1)
    """Share of the bandwidth at which weights are read."""
    wide_bytes_per_s: float | None = Field(default=None, gt=0)
    """Most that one processor reads of weights in two bytes: its loads in flight over the latency of memory."""
    narrow_bytes_per_s: float | None = Field(default=None, gt=0)
    """The same of quantised weights, whose loads are wider."""
    unpack_flops: float = Field(ge=0)
    """Operations at the fp32 rate to unpack a quantised weight and multiply one row by it."""
    product: float = Field(gt=0, le=1)
    """Share of the peak in products of many rows; adding up in fp16, where tensor units can."""
    quantised: float = Field(default=1, gt=0)
    """What such a product takes by quantised weights, as a multiple of one by weights in two bytes."""
    flops_per_joule: dict[str, float] = Field(default_factory=dict)
    """Most operations for the energy that the board may draw, by architecture, or by architecture and
    compute capability where one name covers two processes (`Ampere 8.0`); others get the geometric mean. Empty: no limit."""
    attention_read: float = Field(default=1, gt=0)
    """Bandwidth at which heads of queries read their keys and values, each for itself; above 1 where a cache serves the repeats."""
    score_bytes: float = Field(default=0, ge=0)
    """Bytes moved for every score of a prompt: those that are written out, masked, normalised, read again; 0 if they are fused."""

    def flops_limit(self, arch: str, capability: str | None, watts: float | None) -> float:
        """Operations per second that the board's power allows."""
        known = self.flops_per_joule
        if watts is None or not known:
            return float("inf")
        return watts * known.get(f"{arch} {capability}", known.get(arch, geometric_mean(known.values())))
