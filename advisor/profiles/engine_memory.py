"""How an engine shares out a device's memory: its trial step, what it leaves free, and its defaults on small devices."""

from pydantic import Field

from advisor.profiles.byte_sizes import GIB
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
