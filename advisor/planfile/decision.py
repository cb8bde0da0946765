"""The decision in a plan file, which `advisor apply` runs; the text under each field is what `advisor explain` and the schema say."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model

from advisor.backends.deployment import Attention, Batching, KvCache
from advisor.quantities.parsing import MOST

Whole = Annotated[int, Field(ge=1, le=MOST, strict=True)]
Positive = Annotated[float, Field(gt=0, le=MOST, strict=True)]
NotNegative = Annotated[float, Field(ge=0, le=MOST, strict=True)]
Number = Annotated[float, Field(ge=-MOST, le=MOST, strict=True)]
Chance = Annotated[float, Field(ge=0, le=1, strict=True)]


class PlanPart(BaseModel):
    """A frozen section that preserves unknown keys."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)
    record_keys: ClassVar[Mapping[str, str]] = {}
    """Fields of the deployment's record that the section mirrors, and their keys here."""

    def unknown_keys(self, path: str = "") -> Iterator[str]:
        """Dotted names of every key that this version of advisor does not know."""
        yield from (f"{path}{key}" for key in (self.model_extra or {}) if "__pydantic_extra__" not in type(self).__annotations__)
        for name in type(self).model_fields:
            value = getattr(self, name)
            parts = value if isinstance(value, tuple) else (value,)
            for part in parts:
                if isinstance(part, PlanPart):
                    yield from part.unknown_keys(f"{path}{name}.")


Section = TypeVar("Section", bound=PlanPart)


def mirrors(record: type, **keys: str | None) -> Callable[[type[Section]], type[Section]]:
    """Declare that a section holds the fields of a deployment's record.

    `keys` gives the key of a field where it is not the field's name, and `None` for a field that plan files leave out. A field for which
    the section declares no key gets an optional one of the field's type, so that a new option of a technique needs no change here.
    """
    named = {field.name: keys.get(field.name, field.name) for field in dataclasses.fields(record)}
    record_keys = {name: key for name, key in named.items() if key is not None}

    def complete(section: type[Section]) -> type[Section]:
        undeclared = {name: key for name, key in record_keys.items() if key not in section.model_fields}
        if undeclared:
            types = get_type_hints(record)
            added: dict[str, Any] = {key: (types[name] | None, None) for name, key in undeclared.items()}
            section = create_model(section.__name__, __base__=section, __doc__=section.__doc__, __module__=section.__module__, **added)
        section.record_keys = record_keys
        return section

    return complete


class Engine(PlanPart):
    """The engine that runs the plan; `advisor` is its own runtime."""

    name: str = "advisor"
    """`advisor` for its own runtime, else a serving engine."""
    version: str | None = None
    """Version or range of the engine."""


class ParallelChoice(PlanPart):
    """How the model is distributed over devices."""

    tensor: Whole = 1
    """Tensor parallel size: devices that share every layer."""
    pipeline: Whole = 1
    """Pipeline parallel size: stages of layers."""
    data: Whole = 1
    """Data parallel size: replicas of the model."""
    expert: Whole = 1
    """Expert parallel size: devices that share the experts."""


class WeightsChoice(PlanPart):
    """How weight matrices are stored."""

    dtype: str
    """Storage format of weight matrices."""
    group_size: Whole | None = None
    """Number of weights per scale; absent: one scale per row, or none."""
    keep: tuple[str, ...] = ()
    """Kinds of matrices that keep the model's own format."""
    activations: str | None = None
    """Type of activations and of matrices that are not quantised; absent: the checkpoint's own."""


@mirrors(KvCache, format="dtype", sink_tokens="first_tokens")
class CacheChoice(PlanPart):
    """How keys and values are stored."""

    dtype: str = "bf16"
    """Storage format of keys and values."""
    layout: str = "contiguous"
    """`paged` allocates blocks as sequences grow, `contiguous` reserves memory for the longest sequence."""
    block_tokens: Whole | None = None
    """Tokens per block."""
    window: Whole | None = None
    """Number of newest tokens that are retained; absent: all."""
    first_tokens: Whole | None = None
    """Number of first tokens (attention sinks) retained in addition to the window."""
    prefix_reuse: bool | None = None
    """Whether requests with the same prefix share blocks; absent: no."""


class PatternChoice(PlanPart):
    """The sparse attention pattern."""

    window: Whole
    """Number of newest tokens that a query attends to, its own included."""
    global_tokens: int = Field(default=0, ge=0, le=MOST)
    """Number of first tokens that every query attends to."""
    random_blocks: int = Field(default=0, ge=0, le=MOST)
    """Number of further random blocks that each block of queries attends to."""
    block_tokens: Whole = 64
    """Tokens per block."""


@mirrors(Attention)
class AttentionChoice(PlanPart):
    """How attention is computed."""

    backend: str = "eager"
    """The attention backend: `sdpa` is fused, `eager` materialises the scores."""
    window: Whole | None = None
    """Sliding window in tokens; absent: the model's own."""
    pattern: PatternChoice | None = None
    """Sparse pattern over a complete cache; absent: dense attention."""


@mirrors(Batching, max_sequences="max_num_seqs", token_budget="max_batched_tokens", wait_steps=None, chunked="chunked_prefill")
class BatchingChoice(PlanPart):
    """Which requests are batched in a step."""

    policy: str = "continuous"
    """`continuous` admits requests as soon as they fit, `static` waits until a batch ends."""
    max_num_seqs: Whole = 1
    """Maximum number of sequences in a step."""
    max_batched_tokens: Whole | None = None
    """Maximum number of tokens in a step; `null` for static batching."""
    chunked_prefill: bool | None = None
    """Whether prompts are split into chunks that fit the token budget; if not, a longer prompt runs in a step of its own."""


class Acceptance(PlanPart):
    """Expected share of proposed tokens accepted, with its 90 % range."""

    value: Number
    """The expected share, 0 to 1."""
    range: tuple[Number, Number]
    """Its 90 % range."""


class Speculation(PlanPart):
    """Speculative decoding."""

    method: str
    """Source of the draft tokens: `draft` is a small model, `prompt-lookup` the text so far."""
    draft_tokens: Whole = 1
    """Number of draft tokens verified in a step."""
    draft_folder: str | None = None
    """Folder of the draft model."""
    acceptance_rate: Acceptance | None = None
    """Share of the draft positions of a step that are accepted, as predicted and as a run measures it."""


class TechniqueChoice(PlanPart):
    """A technique with its options, in order of application."""

    name: str
    """Its name, as in `advisor explain`."""
    options: dict[str, Any] = Field(default={})
    """Its options."""


class Apply(PlanPart):
    """The decision: the only part that `advisor apply` runs."""

    engine: Engine = Engine()
    parallel: ParallelChoice = ParallelChoice()
    weights: WeightsChoice
    attention: AttentionChoice = AttentionChoice()
    kv_cache: CacheChoice = CacheChoice()
    speculative: Speculation | None = None
    batching: BatchingChoice = BatchingChoice()
    techniques: tuple[TechniqueChoice, ...] = ()
