"""Parts of an engine profile: how it sizes its cache on a device, and the efficiency of its own kernels. A source per record."""

from math import ceil
from statistics import geometric_mean

from pydantic import Field

from advisor.profiles.formats import GIB
from advisor.profiles.frozen import Frozen


class Trial(Frozen):
    """The profiling run of the largest step with which an engine sizes its cache; the memory that it peaks at stays reserved."""

    logit_bytes: float = Field(ge=0)
    """Bytes per logit, one row of logits per sequence: the logits, fp32 copies, probabilities and buffers of sampling."""
    expert_workspace: bool = False
    """Whether inputs and outputs of the experts have buffers that stay allocated."""
    peers_gib: float = Field(default=0, ge=0)
    """Buffers of collectives, in GiB on each device of a tensor-parallel group."""
    outside_memory_share: bool = Field(default=False, alias="beside_share")
    """The run's memory is outside `memory_share`, not part of it."""
    source: str
    """The engine's code or documentation."""


class Reserve(Frozen):
    """Memory that an engine leaves free on a GPU, where it has no fixed share of it: `fixed_gib` + `token_mib` * tokens of a step."""

    fixed_gib: float = Field(ge=0)
    token_mib: float = Field(ge=0)
    """MiB per token of the largest step."""
    least_gib: float = Field(ge=0)
    """Lower bound on devices of `least_from_gib` or more."""
    least_from_gib: float = Field(ge=0)
    source: str
    """The engine's code or documentation."""

    def share(self, memory_bytes: float, token_budget: int) -> float:
        """The share of `memory_bytes` for weights and cache, at least 0.1; `token_budget` is the largest step in tokens."""
        total_gib = memory_bytes / GIB
        reserved_gib = self.fixed_gib + self.token_mib * token_budget / 1024
        if total_gib >= self.least_from_gib:
            reserved_gib = max(reserved_gib, self.least_gib)
        return max(1 - reserved_gib / total_gib, 0.1)


class SmallDevice(Frozen):
    """Defaults on devices with less memory than `below_gib`: most tokens of a step, most sequences at once."""

    below_gib: float = Field(gt=0)
    token_budget: int = Field(ge=1)
    max_sequences: int = Field(ge=1)
    source: str


class LatentRows(Frozen):
    """Layout of rows in fp8 with scales beside them; the rotary part of an entry is in 16 bits."""

    group_elements: int = Field(ge=1)
    """Elements that share a scale."""
    scale_bytes: int = Field(ge=1)
    aligned_bytes: int = Field(default=1, ge=1)
    """The scales of a row take a multiple of this."""
    source: str
    """The engine's code."""

    def row_bytes(self, elements: int, rotary: int = 0) -> int:
        """Bytes of a row of `elements`, of which `rotary` are in 16 bits without a scale."""
        scales = ceil((elements - rotary) / self.group_elements) * self.scale_bytes
        return elements + rotary + ceil(scales / self.aligned_bytes) * self.aligned_bytes


class Repack(Frozen):
    """Experts whose weights the engine's kernels need in matrices of padded sizes."""

    format: str
    """Format of their weights."""
    paddings: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    """Multiples of the hidden size, and of the inner size on one device: of the kernel that pads least, the usual one, and most."""
    source: str
    """The engine's code."""

    def shares(self, hidden: int, inner: int) -> tuple[float, float, float]:
        """Padded elements of a matrix of `hidden` by `inner` as a multiple of its own: at least, usually and at most."""
        least, usual, most = (
            ceil(hidden / outer) * outer * ceil(inner / within) * within / (hidden * inner) for outer, within in self.paddings
        )
        return least, usual, most


class Loading(Frozen):
    """What an engine holds of a checkpoint's weights once it is loaded."""

    surplus: float = Field(default=0.01, ge=0)
    """Most buffers beside the weights, as a share of them: rotary tables, workspaces."""
    repacks: tuple[Repack, ...] = ()
    towers: bool = False
    """Encoders of images and sound are loaded with the language model, divided within a tensor-parallel group."""
    tiles: dict[str, tuple[int, int]] = Field(default_factory=dict)
    """Multiples of the output and input features that the kernels of a format need, beside whole groups of a scale."""
    plain_formats: dict[str, str] = Field(default_factory=dict)
    """Format of the matrices that a checkpoint in the format named has in 16 bits, where the engine's files convert them; routers stay."""
    source: str = "assumed"
    """Published logs, or that it is assumed."""


class CompressedPages(Frozen):
    """Blocks of latent attention with compressed entries beside a window (DeepSeek V4)."""

    block_tokens: int = Field(ge=1)
    """Tokens of a block of compressed entries."""
    window_block_tokens: int = Field(ge=1)
    """Tokens of a block of the window."""
    state_block_tokens: dict[int, int]
    """Tokens of a block of a compressor's states, by the tokens that it compresses into one entry."""
    aligned_bytes: int = Field(ge=1)
    """Pages take a multiple of this."""
    source: str
    """The engine's code."""

    def aligned(self, page_bytes: float) -> int:
        """Bytes of a page with its padding."""
        return ceil(page_bytes / self.aligned_bytes) * self.aligned_bytes


class UnifiedPages(Frozen):
    """A cache whose blocks have one size for all kinds of layer; windowed layers reserve the window and the steps in flight."""

    steps_in_flight: tuple[int, int]
    """Fewest and most token budgets that a request reserves beyond a window, by version of the engine."""
    compressed: CompressedPages | None = None
    source: str
    """The engine's code."""


class AutoCache(Frozen):
    """A default format of the KV cache for models with latent attention of a layout, on one GPU architecture or on all."""

    attention: str
    """A `LatentAttention.layout`."""
    arch: str | None = None
    format: str
    source: str
    """The engine's code."""


class Kernels(Frozen):
    """Efficiency of matrix products and attention on one kind of device (`tools/fit_kernels.py`); shares are of data-sheet figures."""

    layer_s: float = Field(ge=0)
    """Seconds of launches and element-wise operators per layer of a decoding step."""
    read: float = Field(gt=0, le=1)
    """Share of the memory bandwidth at which weights are read."""
    wide_bytes_per_s: float | None = Field(default=None, gt=0)
    """Most bytes/s that one multiprocessor reads of 16-bit weights: its loads in flight over the latency of memory."""
    narrow_bytes_per_s: float | None = Field(default=None, gt=0)
    """The same for quantised weights, whose loads are wider."""
    unpack_flops: float = Field(ge=0)
    """Operations, at the fp32 peak, to unpack one quantised weight and multiply one row by it."""
    product: float = Field(gt=0, le=1)
    """Share of peak FLOP/s in products of many rows, with fp16 accumulation where tensor cores have it."""
    quantised: float = Field(default=1, gt=0)
    """Time of such a product with quantised weights, as a multiple of one with 16-bit weights."""
    flops_per_joule: dict[str, float] = Field(default_factory=dict)
    """Most operations per joule of board power, by architecture, or by architecture and compute capability where one name covers
    two chips (`Ampere 8.0`); other architectures get the geometric mean. Empty: no power limit."""
    attention_read: float = Field(default=1, gt=0)
    """Share of the bandwidth at which each query head reads its keys and values; above 1 where a cache serves repeated reads."""
    score_bytes: float = Field(default=0, ge=0)
    """Bytes moved per attention score in a prefill: written, masked, normalised, read; 0 in fused kernels."""

    def flops_limit(self, arch: str, capability: str | None, watts: float | None) -> float:
        """FLOP/s that a board power of `watts` allows; infinite where either is unknown. `capability` is such as `8.0`."""
        limits = self.flops_per_joule
        if watts is None or not limits:
            return float("inf")
        return watts * limits.get(f"{arch} {capability}", limits.get(arch, geometric_mean(limits.values())))
