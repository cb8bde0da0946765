"""What stands around the decision in a plan file: what was asked, for which model and machine, what is predicted, and why.

The text under each field is what `advisor explain` and the schema say.
"""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, create_model

from advisor.planfile.decision import Chance, NotNegative, Number, PlanPart, Positive, Whole
from advisor.profiles.request import Load, Prefer
from advisor.quantities.limits import LIMITS

Basis = Literal[
    "exact", "setting", "measured", "profiled", "catalogue", "architecture", "literature", "datasheet", "simulated", "sum"
]  # fmt: skip


class _Load(PlanPart):
    """The workload, and what plans are ranked by."""

    task: Literal["inference", "training"] = "inference"
    prefer: Prefer = Prefer.BALANCED
    """What plans that meet the limits are ranked by."""
    context_tokens: Whole
    """The longest that a sequence may become, output included."""
    prompt_tokens: Whole | None = None
    """Mean length of a prompt; absent: all of the context but the output."""
    output_tokens: Whole
    """Mean length of an answer."""
    shared_prefix_tokens: Whole | None = None
    """Length of the prefix that all prompts share; absent: none that is known."""
    load: Load | None = None
    """How requests arrive; absent: closed with a concurrency, open with a rate."""
    oversubscribe: bool | None = None
    """Size the cache for the mean length and preempt when it runs out; absent: for all requests at their longest."""
    concurrency: Whole | None = None
    """Requests in flight at once, or of a burst."""
    request_rate_per_s: Positive | None = Field(default=None, description=LIMITS["request_rate_per_s"].description)
    load_trace: str | None = None
    """File of the requests that arrive, with their lengths; `prompt_tokens` and `output_tokens` are then their means."""


if TYPE_CHECKING:

    class _Bounded(_Load):
        def __getattr__(self, key: str) -> Any: ...

else:
    _Bounded = create_model(
        "_Bounded",
        __base__=_Load,
        **{
            limit.file_key: (
                (NotNegative if limit.quantity.zero else Positive) | None,
                Field(default=None, description=limit.description),
            )
            for limit in LIMITS.values()
            if not limit.is_load
        },
    )


class PlanLimits(_Bounded):
    """What was asked: the workload, the preference, a key for each row of `LIMITS`, and techniques. `null` is not limited."""

    require: tuple[str, ...] = ()
    """Techniques that must be in the plan, each with the options that it must have: `name:option=value,option=value`."""
    forbid: tuple[str, ...] = ()
    """Techniques that must not be in the plan."""

    def bound(self, limit: str) -> float | None:
        """The bound of a limit, by its name in `LIMITS`; `None` where it is not limited."""
        value: float | None = getattr(self, LIMITS[limit].file_key)
        return value


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
