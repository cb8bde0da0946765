"""The decision in a plan file, which `advisor apply` runs; the text under each field is what `advisor explain` and the schema say."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model

from advisor.backends.deployment import Attention, Batching, KvCache

Whole = Annotated[int, Field(ge=1, strict=True)]
Positive = Annotated[float, Field(gt=0, strict=True)]
NotNegative = Annotated[float, Field(ge=0, strict=True)]
Number = Annotated[float, Field(strict=True)]
Chance = Annotated[float, Field(ge=0, le=1, strict=True)]


class PlanPart(BaseModel):
    """A frozen section that keeps the keys it does not know."""

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
    """What runs the plan; `advisor` is our own runtime."""

    name: str = "advisor"
    """`advisor` for our own runtime, else a serving engine."""
    version: str | None = None
    """Version or range of the engine."""


class ParallelChoice(PlanPart):
    """How the model is spread."""

    tensor: Whole = 1
    """Devices that share every layer."""
    pipeline: Whole = 1
    """Stages of layers."""
    data: Whole = 1
    """Replicas of the model."""
    expert: Whole = 1
    """Devices that share the experts."""


class WeightsChoice(PlanPart):
    """How matrices are stored."""

    dtype: str
    """Storage format of matrices."""
    group_size: Whole | None = None
    """Weights that share a scale; absent: a row, or none."""
    keep: tuple[str, ...] = ()
    """Kinds of matrices that stay in the model's own format."""


@mirrors(KvCache, format="dtype", sink_tokens="first_tokens")
class CacheChoice(PlanPart):
    """Where keys and values live."""

    dtype: str = "bf16"
    """Storage format of keys and values."""
    layout: str = "contiguous"
    """`paged` hands out blocks as sequences grow, `contiguous` reserves the longest sequence."""
    block_tokens: Whole | None = None
    """Tokens of a block."""
    window: Whole | None = None
    """Newest tokens that stay; all where it is absent."""
    first_tokens: Whole | None = None
    """First tokens that stay beside the window."""
    prefix_reuse: bool | None = None
    """Whether requests that begin alike share blocks; absent: no."""


class PatternChoice(PlanPart):
    """What a token sees where it does not see everything."""

    window: Whole
    """Newest tokens, itself included."""
    global_tokens: int = Field(default=0, ge=0)
    """Tokens at the start that everyone sees."""
    random_blocks: int = Field(default=0, ge=0)
    """Blocks that each block of queries sees besides."""
    block_tokens: Whole = 64
    """Tokens of a block."""


@mirrors(Attention)
class AttentionChoice(PlanPart):
    """What computes attention."""

    backend: str = "eager"
    """`sdpa` is fused, `eager` writes the scores out."""
    window: Whole | None = None
    """Newest tokens that a token sees, where that is fewer than the model's own."""
    pattern: PatternChoice | None = None
    """What a token sees of a cache that keeps everything; all of it where this is absent."""


@mirrors(Batching, max_sequences="max_num_seqs", token_budget="max_batched_tokens", wait_steps=None, chunked="chunked_prefill")
class BatchingChoice(PlanPart):
    """Which requests share a step."""

    policy: str = "continuous"
    """`continuous` admits requests whenever there is room, `static` waits for a batch to end."""
    max_num_seqs: Whole = 1
    """Most sequences in a step."""
    max_batched_tokens: Whole | None = None
    """Most tokens in a step; `null` where a batch is static."""
    chunked_prefill: bool | None = None
    """Whether prompts are cut into chunks to fit; where they are not, one that is longer has a step to itself."""


class Acceptance(PlanPart):
    """Expected share of proposed tokens accepted, with its 90 % range."""

    value: Number
    """The expected share, 0 to 1."""
    range: tuple[Number, Number]
    """Its 90 % range."""


class Speculation(PlanPart):
    """How tokens are proposed ahead."""

    method: str
    """`draft` asks a small model, `prompt-lookup` the text so far."""
    draft_tokens: Whole = 1
    """Positions proposed and verified in a step."""
    draft_folder: str | None = None
    """Folder of the draft model."""
    acceptance: Acceptance | None = None


class TechniqueChoice(PlanPart):
    """A technique with its options, in order of application."""

    name: str
    """Its name, as `advisor explain` knows it."""
    options: dict[str, Any] = Field(default={})
    """Its options that a search may set."""


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
