"""How an engine shares out a device's memory: its trial step, what it leaves free, and its defaults on small devices."""

from statistics import geometric_mean

from pydantic import Field

from advisor.profiles.formats import GIB
from advisor.profiles.frozen import Frozen


class Trial(Frozen):
    """A trial step of the engine's largest size that runs before the cache is sized: what it takes is kept free ever after."""

    logit_bytes: float = Field(ge=0)
    """Per logit of one row for every sequence: the logits, their copies in fp32, probabilities and whatever sampling sorts."""
    expert_workspace: bool = False
    """Whether inputs and outputs of the experts have buffers of their own that stay."""
    peers_gib: float = Field(default=0, ge=0)
    """What each device of a tensor-parallel group holds for talking to the others."""
    beside_share: bool = False
    """The trial's memory is taken from what `memory_share` leaves, not from the share itself."""
    source: str


class Reserve(Frozen):
    """What an engine leaves free instead of a fixed share of a GPU's memory."""

    fixed_gib: float = Field(ge=0)
    token_mib: float = Field(ge=0)
    """Per token of the largest step."""
    least_gib: float = Field(ge=0)
    """At least so much from `least_from_gib` of memory on."""
    least_from_gib: float = Field(ge=0)
    source: str

    def share(self, memory_bytes: float, token_budget: int) -> float:
        """The share of the device's memory that is left to weights and caches; at least a tenth."""
        total_gib = memory_bytes / GIB
        reserved_gib = self.fixed_gib + self.token_mib * token_budget / 1024
        if total_gib >= self.least_from_gib:
            reserved_gib = max(reserved_gib, self.least_gib)
        return max(1 - reserved_gib / total_gib, 0.1)


class SmallDevice(Frozen):
    """Other defaults where a device has less memory than `below_gib`."""

    below_gib: float = Field(gt=0)
    token_budget: int = Field(ge=1)
    max_sequences: int = Field(ge=1)
    source: str


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
