"""What stands around the decision in a plan file: what was asked, for which model and machine, what is predicted, and why.

The text under each field is what `advisor explain` and the schema say.
"""

from typing import Annotated, Literal

from pydantic import Field

from advisor.planfile.decision import Chance, Number, PlanPart, Positive, Whole
from advisor.profiles.request import Load, Prefer

Basis = Literal[
    "exact", "setting", "measured", "profiled", "catalogue", "architecture", "literature", "datasheet", "simulated", "sum"
]  # fmt: skip


class PlanLimits(PlanPart):
    """What was asked. `null` is not limited."""

    task: Literal["inference", "training"] = "inference"
    prefer: Prefer = Prefer.BALANCED
    """What plans that meet the limits are ranked by."""
    context_tokens: Whole
    """The longest that a sequence may become, output included."""
    prompt_tokens: Whole | None = None
    """Usual length of a prompt; absent: all of the context but the output."""
    output_tokens: Whole
    """Tokens of an answer."""
    shared_prefix_tokens: Whole | None = None
    """Tokens with which every prompt begins; absent: none that are known."""
    load: Load | None = None
    """How requests arrive; absent: closed with a concurrency, open with a rate."""
    oversubscribe: bool | None = None
    """Size the cache for the usual length and preempt when it runs dry; absent: all requests may be longest at once."""
    concurrency: Whole | None = None
    """Requests in flight at once, or of a burst."""
    request_rate_per_s: Positive | None = None
    """Requests arriving per second; the least that must be served for as long as they come."""
    load_trace: str | None = None
    """File of the requests that arrive, with their lengths; `prompt_tokens` and `output_tokens` are then their means."""
    ttft_ms_p95: Positive | None = None
    """Maximum time to the first token, 95th percentile."""
    tpot_ms_p95: Positive | None = None
    """Maximum time per output token after the first, 95th percentile."""
    throughput_tok_s: Positive | None = None
    """Minimum, output tokens, all requests together."""
    memory_gib_per_gpu: Positive | None = None
    """Maximum per device; of the process's memory on a CPU."""
    quality_drop_pct: Annotated[float, Field(ge=0, strict=True)] | None = None
    """Maximum perplexity increase over the unmodified model."""
    require: tuple[str, ...] = ()
    """Techniques that must be in the plan, each with the options that it must have: `name:option=value,option=value`."""
    forbid: tuple[str, ...] = ()
    """Techniques that must not be in the plan."""


class PlanAlternative(PlanPart):
    """Another frontier point worth a look."""

    id: str
    """The id that a plan file of this stack would have."""
    change: str
    """Techniques added and left out, or the setting that differs."""
    gives: str | None = None
    """The metric that it improves by most."""
    costs: str | None = None
    """The metric that it worsens by most."""


class Relax(PlanPart):
    """The smallest change of one limit that would let a plan in."""

    limit: str
    """The limit, by its name under `limits`."""
    asked: Number
    """What was asked, or what the device has."""
    needed: Number
    """What would do."""


class PlanVerdict(PlanPart):
    """How the plan stands against the limits."""

    status: Literal["meets", "at-risk", "misses"]
    summary: str
    """The verdict in a sentence, with the tightest limit or the one that is missed by most."""
    probability: Chance | None = None
    """How likely all limits are kept, memory included; absent in files of older versions."""
    chances: dict[str, Chance] = Field(default={})
    """How likely each limit is kept, by its name under `limits`."""
    outside: str | None = None
    """Why the setting is unlike all that predictions were compared with; absent where it is not."""
    relax: tuple[Relax, ...] = ()
    alternatives: tuple[PlanAlternative, ...] = ()


class PlanModel(PlanPart):
    """Which model, and how to know it again."""

    source: Literal["hf", "path", "shipped"]
    name: str
    """Id of the model."""
    path: str | None = None
    """Folder with the weights, when it was planned for from one; a shipped model is found by its name."""
    revision: str | None = None
    """Commit of the model repository."""
    digest: str | None = None
    """Of the architecture: its `config.json`."""
    family: str | None = None
    """Kind of architecture, as `advisor models` has it."""
    parameters: Whole
    """Number of parameters."""


class PlanMachine(PlanPart):
    """What the numbers are for."""

    hardware: str | None = None
    """Id of the accelerator, as `advisor hardware` lists it."""
    profile: str | None = None
    """Name of the measured profile; `null` for the data sheet."""
    fingerprint: str
    """Kind of machine: `sheet:` for a data sheet, else as `advisor hardware detect` shows it."""
    gpus: Annotated[int, Field(ge=0, strict=True)] = 1
    """Accelerators used; 0 for a CPU."""
    links: str | None = None
    """How the accelerators are linked."""


class PlanMetric(PlanPart):
    """A number with its 90 % range, how it is known, and the limit it stands against."""

    value: Number
    """The middle of what is predicted."""
    range: tuple[Number, Number]
    """Its 90 % range."""
    basis: Basis
    """How it is known, from measured to data sheet."""
    limit: Number | None = None
    """The limit it stands against."""
    ok: bool | None = None
    """Whether the value keeps the limit."""


class Predicted(PlanPart):
    """What the plan is predicted to do; the unit stands in each key."""

    __pydantic_extra__: dict[str, PlanMetric]
    memory_gib_per_gpu: dict[str, PlanMetric] = Field(default={})


class PlanReason(PlanPart):
    """Why a technique is in the plan or out of it."""

    id: str
    """The technique."""
    state: Literal["chosen", "rejected", "not-applicable", "not-considered"]
    why: str
    """The reason, with numbers."""
    would_need: dict[str, Number] | None = None
    """Limits that would let it in."""
    effect: dict[str, Number] | None = None
    """How each metric changes with it."""
    sources: tuple[str, ...] = ()
    """Where its effect is known from."""


class Quality(PlanPart):
    """What quality was measured on; `null` while it is only expected."""

    suite: str | None = None
    """The text that quality was measured on."""
    baseline: str = "bf16"
    """What quality is compared with."""


class ProfileStamp(PlanPart):
    """Which measurement the numbers rest on."""

    name: str
    """Name of the profile."""
    taken: str | None = None
    """When it was measured."""
    digest: str | None = None
    """SHA-256 of what it holds, shortened."""


class Candidates(PlanPart):
    """How wide the search was."""

    considered: Annotated[int, Field(ge=0)]
    """Stacks that were priced."""
    feasible: Annotated[int, Field(ge=0)]
    """Of them, those that meet the limits."""
    frontier: Annotated[int, Field(ge=0)]
    """Of them, those that no other beats in everything."""


class Provenance(PlanPart):
    """Who made the file, when, from what."""

    advisor: str
    """Version that made the plan."""
    created: str
    """When, or what SOURCE_DATE_EPOCH says; the file is not rewritten for it alone."""
    digest: str
    """SHA-256 of limits, apply, model and machine, shortened; tells whether they were edited since."""
    profile: ProfileStamp | None = None
    """The measurement that the numbers rest on; absent for a data sheet."""
    candidates: Candidates | None = None
    """How wide the search was."""
