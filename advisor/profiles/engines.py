"""Serving engines as the planner sees them: overheads, their share of memory, and what they can express."""

from functools import cache
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator

from advisor.profiles.engine_parts import Kernels, Reserve, SmallDevice, Trial
from advisor.profiles.errors import AdvisorError, ErrorAction, ExitCode
from advisor.profiles.files import read_yaml
from advisor.profiles.formats import GIB
from advisor.profiles.frozen import Frozen

_FOLDER = Path(__file__).with_name("engines")


class Scales(Frozen):
    """How long an engine's operators take as a multiple of the measured kernels: fusion, choice of kernels, overlap, imbalance."""

    products: float = Field(default=1, gt=0)
    experts: float = Field(default=1, gt=0)
    """Grouped products, where `ExpertKernels` has none for the architecture and format."""
    attention: float = Field(default=1, gt=0)
    latent: float = Field(default=1, gt=0)
    """Attention over compressed keys and values (MLA), which no measured kernel covers."""
    recurrent: float = Field(default=1, gt=0)
    """Linear attention and state-space layers."""
    collectives: float = Field(default=1, gt=0)
    traffic: float = Field(default=1, gt=0)
    """Element-wise work and the way of tokens to their experts."""


class ExpertKernels(Frozen):
    """Grouped products of experts: no kernel measurements cover them, and engines' kernels differ by architecture and format."""

    arch: str
    format: str
    """The measured format that stands for the weights' one; see `measured_format`."""
    decode: float = Field(gt=0)
    prefill: float = Field(gt=0)


class Overheads(Frozen):
    """What an engine adds to the operators, in seconds, and how its operators compare with the measured kernels."""

    step_s: float = Field(ge=0)
    """Per step."""
    layer_s: float = Field(ge=0)
    """Per layer and step."""
    sequence_s: float = Field(ge=0)
    """Per sequence and step."""
    element_s: float = Field(ge=0)
    """Per row, layer and hidden element; 0 lets memory bandwidth price the element-wise work."""
    request_s: float = Field(default=0, ge=0)
    """Per request, before its first step: tokenising, queueing, transport."""
    expert_layer_s: float = Field(default=0, ge=0)
    """Per layer with routed experts and step: routing, sorting tokens, and back."""
    prefill_step_s: float = Field(default=0, ge=0)
    """Per step that prefills: such steps run outside captured graphs."""
    prefill_layer_s: float = Field(default=0, ge=0)
    """Per layer and step that prefills."""
    prefill_recurrent_layer_s: float = Field(default=0, ge=0)
    """Per recurrent layer and step that prefills: its scan runs as a dozen small kernels that are launched one by one."""
    host_layer_s: float = Field(default=0, ge=0)
    """Per layer and step, spent by the host on launching operators one by one; hidden where the device takes longer."""
    hop_s: float = Field(default=0, ge=0)
    """Per boundary between the stages of a pipeline and step."""
    wait_steps: float = Field(default=0, ge=0)
    """Decoding steps that a new request waits for, and a first token for its transport: how often the scheduler looks and sends."""
    joins: bool = False
    """Projections of the same input are one product: queries, keys and values; gate and up."""
    latency: float = Field(default=1, ge=0)
    """Share of a product's latency that is left when kernels follow one another: replayed graphs and early launches hide the rest."""
    decode: Scales = Scales()
    """Of steps that only decode."""
    prefill: Scales = Scales()
    """Of steps that prefill."""
    experts: tuple[ExpertKernels, ...] = ()
    sums: Literal["fp32", "fp16"] = "fp32"
    """What its products add up in: fp16 sums run at full rate on game cards."""
    kernels: dict[str, Kernels] = Field(default_factory=dict)
    """The engine's own kernels by the maker of the device, or for any `other`; where there are none, the measured ones."""
    source: str

    def kernels_on(self, vendor: str) -> Kernels | None:
        """The engine's own kernels on devices of a maker."""
        return self.kernels.get(vendor, self.kernels.get("other"))

    def scales(self, prefills: bool) -> Scales:
        """The scales of a step."""
        return self.prefill if prefills else self.decode

    def expert_scale(self, arch: str, format: str, prefills: bool) -> float:
        """How long grouped products over weights of a measured format take as a multiple of plain ones."""
        for known in self.experts:
            if known.arch == arch and known.format == format:
                return known.prefill if prefills else known.decode
        return self.scales(prefills).experts


class CacheRows(Frozen):
    """How an engine keeps the rows of a quantised cache: formats by what they have."""

    scaled: tuple[str, ...] = ("int8", "int4")
    """A scale for every token and head; the others have one per layer or none."""
    rotated: tuple[str, ...] = ()
    """Rows are rotated before they are rounded, which spreads outliers."""
    recent: tuple[str, ...] = ()
    """The newest pages of each sequence stay in the model's own format; see `RECENT_PAGES`."""


class EngineProfile(Frozen):
    """One engine and a range of its versions."""

    name: str
    versions: str
    gpu: Overheads
    cpu: Overheads
    memory_share: float | None = Field(default=None, gt=0, le=1)
    """Share of the device's memory that the engine may use, or of what is free beside weights and activations."""
    memory_share_of: Literal["total", "free"] = "total"
    memory_share_source: str
    memory_reserve: Reserve | None = None
    """What is left free where there is no fixed `memory_share`."""
    context_gib: float = Field(ge=0)
    """Held by the process and its libraries before any weight is loaded."""
    context_source: str
    embedding_on_host: bool = False
    """The host looks embeddings up, and only what follows is on the device."""
    trial: Trial | None = None
    """How much a trial step takes before the cache is sized; without one, steps take what the workload needs."""
    states_in_pool: bool = False
    """States of recurrent layers live in the pages of the cache, which are all of one size."""
    small_devices: tuple[SmallDevice, ...] = ()
    """Defaults of devices with less memory, smallest first."""
    token_budget: int = Field(ge=1)
    """Most tokens of one step where a plan does not say."""
    block_tokens: int = Field(ge=1)
    weight_formats: tuple[str, ...]
    """Formats it runs; a name that ends in `*` is a family."""
    kv_formats: tuple[str, ...]
    kv_rows: CacheRows = CacheRows()
    decoding: tuple[str, ...]
    narrows: tuple[str, ...] = ()
    """Techniques by which it can be made to see or keep less of a context than the model would."""
    rounds_head: bool = False
    """Whether an output head that is a matrix of its own can be stored in few bits like the layers' matrices."""
    chooses_attention: bool = False
    """Whether it times the exact kernels that it has and takes the fastest for each shape."""
    prefix_reuse: bool = False
    """Whether requests that begin alike can share cached blocks."""
    attention: Literal["sdpa", "unshared", "eager"] = "sdpa"
    """How it computes attention; see `Attention`."""
    preempts: bool = False
    """Admits requests as long as their prompts fit, and takes memory back from the youngest when it runs dry; else reserves all."""
    max_sequences: int = Field(default=256, ge=1)
    """Requests that run at once where a plan does not say."""
    kv_with_quantised: str = "bf16"
    """Format of the cache under fp8 and fp4 weights where a plan does not say."""

    @model_validator(mode="after")
    def _shares_memory(self) -> Self:
        if self.memory_share is None and self.memory_reserve is None:
            raise ValueError("memory_share or memory_reserve must be set")
        return self

    def kv_format_for(self, weight_format: str) -> str:
        """The cache's format where a plan does not say."""
        return self.kv_with_quantised if weight_format in ("fp8", "nvfp4") else "bf16"

    def on(self, memory_bytes: float) -> "EngineProfile":
        """The engine with the defaults that it takes on a device of that size."""
        small = next((known for known in self.small_devices if memory_bytes < known.below_gib * GIB), None)
        changed: dict[str, object] = {"small_devices": ()}
        if small is not None:
            changed |= {"token_budget": small.token_budget, "max_sequences": small.max_sequences}
        return self.model_copy(update=changed)

    def share_on(self, memory_bytes: float) -> float:
        """The share of a device's memory that the engine may use."""
        if self.memory_share is not None:
            return self.memory_share
        assert self.memory_reserve is not None, "checked when the profile was read"
        return self.memory_reserve.share(memory_bytes, self.token_budget)

    def runs(self, weight_format: str) -> bool:
        """Whether the engine loads weights of this format."""
        return any(
            weight_format == known or (known.endswith("*") and weight_format.startswith(known[:-1])) for known in self.weight_formats
        )


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
