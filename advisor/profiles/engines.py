"""Serving engines: overheads, use of memory, defaults and supported formats. One YAML file an engine, a source per record."""

from fnmatch import fnmatchcase
from functools import cache
from math import ceil
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator

from advisor.profiles.architectures.layers import LatentAttention
from advisor.profiles.architectures.spec import ModelSpec
from advisor.profiles.engine_parts import AutoCache, Kernels, LatentRows, Loading, Reserve, SmallDevice, Trial, UnifiedPages
from advisor.profiles.errors import AdvisorError, ErrorAction, ExitCode
from advisor.profiles.files import read_yaml
from advisor.profiles.formats import GIB
from advisor.profiles.formats import weight_format as format_of
from advisor.profiles.frozen import Frozen
from advisor.quantities.formatting import quantity

_FOLDER = Path(__file__).with_name("engines")


class Scales(Frozen):
    """Time of an engine's operators as a multiple of the measured kernels: fusion, choice of kernels, overlap, imbalance."""

    products: float = Field(default=1, gt=0)
    """Dense matrix products."""
    experts: float = Field(default=1, gt=0)
    """Grouped products, where no `ExpertKernels` names the architecture and format."""
    attention: float = Field(default=1, gt=0)
    """Softmax attention."""
    latent: float = Field(default=1, gt=0)
    """Attention over compressed keys and values (MLA), which no measured kernel covers."""
    recurrent: float = Field(default=1, gt=0)
    """Linear attention and state-space layers."""
    collectives: float = Field(default=1, gt=0)
    """All-reduces and all-to-alls between devices."""
    traffic: float = Field(default=1, gt=0)
    """Element-wise operators, and dispatch of tokens to experts."""


class ExpertKernels(Frozen):
    """Time of an engine's grouped products of experts as a multiple of dense ones, by GPU architecture and weight format."""

    arch: str
    format: str
    """The measured format that represents the format of the weights; see `measured_format`."""
    decode: float = Field(gt=0)
    """In steps that only decode."""
    prefill: float = Field(gt=0)
    """In steps that prefill."""


class Overheads(Frozen):
    """Overheads of an engine on one kind of device, in seconds, and the time of its operators relative to the measured kernels.

    Fitted to published measurements by `tools/fit_engines.py` unless `source` says otherwise.
    """

    step_s: float = Field(ge=0)
    """Seconds per step."""
    layer_s: float = Field(ge=0)
    """Seconds per layer and step."""
    sequence_s: float = Field(ge=0)
    """Seconds per sequence and step."""
    element_s: float = Field(ge=0)
    """Seconds per row, layer and hidden element; at 0 element-wise operators are priced by memory bandwidth."""
    request_s: float = Field(default=0, ge=0)
    """Seconds per request before its first step: tokenising, queueing, transport."""
    expert_layer_s: float = Field(default=0, ge=0)
    """Seconds per layer with routed experts and step: routing, sorting tokens and restoring their order."""
    prefill_step_s: float = Field(default=0, ge=0)
    """Additional seconds per step that prefills: such steps run outside captured graphs."""
    prefill_layer_s: float = Field(default=0, ge=0)
    """Additional seconds per layer and step that prefills."""
    prefill_recurrent_layer_s: float = Field(default=0, ge=0)
    """Additional seconds per recurrent layer and step that prefills: its scan is a dozen small kernels launched one by one."""
    host_layer_s: float = Field(default=0, ge=0)
    """Seconds per layer and step in which the host launches operators one by one; hidden where the device takes longer."""
    hop_s: float = Field(default=0, ge=0)
    """Seconds per boundary between pipeline stages and step."""
    wait_steps: float = Field(default=0, ge=0)
    """Decoding steps that a new request waits before it is scheduled, and a first token before it is sent."""
    joins: bool = False
    """Whether projections of the same input are fused into one product: query, key and value; gate and up."""
    latency: float = Field(default=1, ge=0)
    """Share of a product's latency that remains when kernels follow each other: graph replay and early launches hide the rest."""
    decode: Scales = Scales()
    """Multiples in steps that only decode."""
    prefill: Scales = Scales()
    """Multiples in steps that prefill."""
    experts: tuple[ExpertKernels, ...] = ()
    sums: Literal["fp32", "fp16"] = "fp32"
    """Accumulation format of its products: consumer GPUs run fp16 accumulation at twice the rate of fp32."""
    emulated_share: float = Field(default=1, gt=0, le=1)
    """Rate of bf16 products on a processor without instructions for them, as a share of the fp32 rate."""
    kernels: dict[str, Kernels] = Field(default_factory=dict)
    """The engine's own kernels by vendor of the device, or for any `other`; without an entry, the measured kernels."""
    source: str
    """What the constants were fitted to, or that they are assumed."""

    def kernels_on(self, vendor: str) -> Kernels | None:
        """The engine's own kernels on devices of `vendor`; `None` where the measured kernels are used."""
        return self.kernels.get(vendor, self.kernels.get("other"))

    def scales(self, prefills: bool) -> Scales:
        """The multiples of a step that prefills, or of one that only decodes."""
        return self.prefill if prefills else self.decode

    def expert_scale(self, arch: str, format: str, prefills: bool) -> float:
        """Time of grouped products over weights of a measured format as a multiple of dense ones, on GPU architecture `arch`."""
        for kernel in self.experts:
            if kernel.arch == arch and kernel.format == format:
                return kernel.prefill if prefills else kernel.decode
        return self.scales(prefills).experts


class CacheRows(Frozen):
    """How an engine stores the rows of a quantised KV cache: the formats with each property, and special layouts."""

    scaled: tuple[str, ...] = ("int8", "int4")
    """Rows have 16-bit scales, one for every token and head unless `group_elements` says otherwise; other formats have one per layer."""
    group_elements: int | None = Field(default=None, ge=1)
    """Elements of a row that share a scale; `None` for all of a token and head."""
    latent_fp8: dict[str, LatentRows] = Field(default_factory=dict)
    """Entries of latent attention in fp8, by `LatentAttention.layout`; without an entry, one byte an element."""
    index_keys: LatentRows | None = None
    """Keys of an indexer, which are fp8 whatever the cache's format; `None` stores them in the cache's format."""
    source: str | None = None
    """The engine's code that lays out integer formats; `None` where their scales are assumed."""
    rotated: tuple[str, ...] = ()
    """Rows are rotated before rounding, which spreads outliers."""
    recent: tuple[str, ...] = ()
    """The newest pages of each sequence are in the model's own format; see `RECENT_PAGES`."""


class WindowShare(Frozen):
    """A pool for windowed layers with a fixed share of the tokens of the other pool."""

    sliding: float = Field(gt=0, le=1)
    """The share for softmax attention."""
    compressed: float = Field(gt=0, le=1)
    """The share for latent attention with compressed entries beside its window."""
    source: str
    """The engine's code."""


class WindowCells(Frozen):
    """A cache of windowed layers with room for a window and a step, in a multiple of cells."""

    step_tokens: int = Field(ge=0)
    multiple: int = Field(ge=1)
    source: str
    """The engine's code."""

    def cells(self, window: int) -> int:
        """Cells of a window of so many tokens."""
        return ceil((window + self.step_tokens) / self.multiple) * self.multiple


class EngineProfile(Frozen):
    """One engine in a range of its versions."""

    name: str
    versions: str
    gpu: Overheads
    cpu: Overheads
    memory_share: float | None = Field(default=None, gt=0, le=1)
    """Share of the device's memory that the engine uses, or of what weights and activations leave free; see `memory_share_of`."""
    memory_share_of: Literal["total", "free"] = "total"
    memory_share_source: str
    memory_reserve: Reserve | None = None
    """Memory left free where there is no fixed `memory_share`."""
    context_gib: float = Field(ge=0)
    """GiB on the device of the process and its libraries before any weight is loaded."""
    context_source: str
    loading: Loading = Loading()
    """What it holds of a checkpoint once that is loaded."""
    embedding_on_host: bool = False
    """The embedding is in host memory and looked up there."""
    trial: Trial | None = None
    """The profiling run that sizes the cache; `None` reserves the activations of the workload instead."""
    pages: UnifiedPages | None = None
    """Pages of one size for windowed layers, recurrent states and all others; `None` for pages as large as each layer needs."""
    window_share: WindowShare | None = None
    """A pool of its own for windowed layers; `None` caches their windows only."""
    window_cells: WindowCells | None = None
    """Cells for windowed layers beyond their windows; `None` for none."""
    small_devices: tuple[SmallDevice, ...] = ()
    """Defaults on devices with less memory, smallest first."""
    token_budget: int = Field(ge=1)
    """Default of the most tokens in one step."""
    block_tokens: int = Field(ge=1)
    """Tokens of a block of the paged cache."""
    weight_formats: tuple[str, ...]
    """Weight formats that the engine loads, or wildcards for their names; after `!`, those of them that it does not."""
    kv_formats: tuple[str, ...]
    """Formats of its KV cache."""
    kv_rows: CacheRows = CacheRows()
    decoding: tuple[str, ...]
    """Its methods of speculative decoding."""
    narrows: tuple[str, ...] = ()
    """Techniques it supports that attend to or cache less of the context than the model."""
    rounds_head: bool = False
    """Whether an untied output head can be quantised like the layers' matrices."""
    chooses_attention: bool = False
    """Whether it times its exact attention kernels and takes the fastest for each shape."""
    prefix_reuse: bool = False
    """Whether requests with a common prefix can share cached blocks."""
    attention: Literal["sdpa", "unshared", "eager"] = "sdpa"
    """Its default attention; see `Attention`."""
    preempts: bool = False
    """Admits requests whose prompts fit and preempts the newest when memory runs out; `False` reserves prompt and output at once."""
    max_sequences: int = Field(default=256, ge=1)
    """Default of the most requests that run at once."""
    kv_with_quantised: str = "bf16"
    """Default format of the KV cache with fp8 and fp4 weights other than the checkpoint's own, as its quantisation tool writes them."""
    reads_cache_scheme: bool = False
    """Whether the cache takes the format that the checkpoint brings scales for."""
    kv_auto: tuple[AutoCache, ...] = ()
    """Exceptions to the default format of the KV cache; the first that applies holds."""

    @model_validator(mode="after")
    def _shares_memory(self) -> Self:
        if self.memory_share is None and self.memory_reserve is None:
            raise ValueError("memory_share or memory_reserve must be set")
        return self

    def auto_cache(self, model: ModelSpec, weight_format: str, arch: str) -> tuple[str, str]:
        """The format of the KV cache where none is given, and why, for weights in a format on a GPU architecture such as `Blackwell`."""
        layouts = {mixer.layout for mixer in model.mixers if isinstance(mixer, LatentAttention)}
        for exception in self.kv_auto:
            if exception.attention in layouts and (exception.arch is None or arch.startswith(exception.arch)):
                return exception.format, f"the default of {self.name} for {exception.attention} latent attention"
        if self.reads_cache_scheme and model.cache_format in self.kv_formats:
            return model.cache_format, "the checkpoint brings its scales"
        if weight_format in ("fp8", "nvfp4") and weight_format != model.weight_format and self.kv_with_quantised != "bf16":
            return self.kv_with_quantised, f"the default of {self.name} with {weight_format} weights"
        if self.reads_cache_scheme and model.cache_format is not None:
            return "bf16", f"{self.name} is not known to read the checkpoint's {model.cache_format} scales"
        return "bf16", f"the default of {self.name}" + (", as the checkpoint brings no cache scales" if self.reads_cache_scheme else "")

    def tower_words(self, model: ModelSpec) -> tuple[str, ...]:
        """Whether the encoders of images and sound of a model are counted with its weights, and their bytes, a sentence each."""
        whether = f"counted: {self.name} loads it" if self.loading.towers else f"not counted: {self.name} loads the language model alone"
        counted = (f"{tower.kind} tower of {quantity(tower.size_bytes / GIB, 'GiB')} {whether}" for tower in model.towers)
        return (*counted, *model.uncounted_towers)

    def on(self, memory_bytes: float) -> "EngineProfile":
        """The engine with its defaults on a device of `memory_bytes`."""
        small = next((device for device in self.small_devices if memory_bytes < device.below_gib * GIB), None)
        changed: dict[str, object] = {"small_devices": ()}
        if small is not None:
            changed |= {"token_budget": small.token_budget, "max_sequences": small.max_sequences}
        return self.model_copy(update=changed)

    def share_on(self, memory_bytes: float) -> float:
        """The share of a device's `memory_bytes` that the engine uses."""
        if self.memory_share is not None:
            return self.memory_share
        assert self.memory_reserve is not None, "checked when the profile was read"
        return self.memory_reserve.share(memory_bytes, self.token_budget)

    @property
    def full_name(self) -> str:
        """The name with the versions that the profile describes."""
        return f"{self.name} {self.versions}" if self.versions != "any" else self.name

    def weight_warnings(self, format: str) -> tuple[str, ...]:
        """That the engine is not known to load weights in a format, as a sentence; empty where it is."""
        if self.runs(format):
            return ()
        return (f"{self.full_name} is not known to support {format} weights; the numbers assume that it does",)

    def runs(self, weight_format: str) -> bool:
        """Whether the engine loads weights of this format, a name in `formats.py`."""
        names = (weight_format, format_of(weight_format).family)
        excluded = (pattern[1:] for pattern in self.weight_formats if pattern.startswith("!"))
        if any(fnmatchcase(weight_format, pattern) for pattern in excluded):
            return False
        return any(fnmatchcase(name, pattern) for pattern in self.weight_formats for name in names)


@cache
def shipped_engines() -> tuple[str, ...]:
    """The names of every engine with a profile, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


@cache
def load_engine(name: str) -> EngineProfile:
    """The engine named `name`. Raises `AdvisorError` `engine-not-found` for any other name."""
    if name not in shipped_engines():
        raise AdvisorError(
            "engine-not-found",
            f"unknown engine `{name}`",
            exit_code=ExitCode.MISSING,
            help=("choose from " + ", ".join(shipped_engines()),),
            field="engine",
            action=ErrorAction.CHOOSE,
        )
    try:
        return EngineProfile.model_validate(read_yaml(_FOLDER / f"{name}.yaml", what="engine"))
    except ValidationError as error:
        raise AdvisorError("bad-engine", f"engine {name}: {error.errors()[0]['msg']}") from error
