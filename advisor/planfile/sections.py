"""The sections of a plan file around the decision: question, model, machine, predictions and reasons.

`advisor explain` and the JSON Schema show the text under each field.
"""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, create_model

from advisor.planfile.decision import Chance, NotNegative, Number, PlanPart, Positive, Whole
from advisor.profiles.request import Load, Prefer, UseCase
from advisor.quantities.limits import LIMITS
from advisor.quantities.parsing import MOST

Basis = Literal[
    "exact", "setting", "measured", "profiled", "catalogue", "architecture", "literature", "datasheet", "simulated", "sum"
]  # fmt: skip


class _Load(PlanPart):
    """The workload, and what plans are ranked by."""

    task: Literal["inference", "training"] = "inference"
    prefer: Prefer = Prefer.BALANCED
    """Preference by which plans that meet the limits are ranked."""
    context_tokens: Whole
    """Maximum length of a sequence, output included."""
    prompt_tokens: Whole | None = None
    """Mean number of prompt tokens; absent: the context without the output."""
    output_tokens: Whole
    """Mean number of output tokens."""
    shared_prefix_tokens: Whole | None = None
    """Number of prompt tokens that all requests share; absent: none."""
    load: Load | None = None
    """How requests arrive; absent: closed with a concurrency, open with a rate."""
    length_spread: Chance | None = None
    """Lengths are uniform within ± this share of their means; absent: 0.1."""
    use_case: UseCase | None = None
    """What the requests ask for; absent: unknown. Published acceptance rates of draft tokens are those of the use case."""
    oversubscribe: bool | None = None
    """Size the cache for the mean length and preempt requests when it is full; absent: for all requests at their longest."""
    concurrency: Whole | None = None
    """Concurrent requests, or requests of a burst."""
    request_rate_per_s: Positive | None = Field(default=None, description=LIMITS["request_rate_per_s"].description)
    load_trace: str | None = None
    """File of the requests that arrive, with their lengths; `prompt_tokens` and `output_tokens` are then their means."""


if TYPE_CHECKING:
    _Bounded = _Load
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
    """The question: workload, preference, limits, and required and forbidden techniques. `null` is not limited."""

    if TYPE_CHECKING:

        def __init__(self, **values: Any) -> None: ...

    require: tuple[str, ...] = ()
    """Techniques that must be in the plan, each with the options that it must have: `name:option=value,option=value`."""
    forbid: tuple[str, ...] = ()
    """Techniques that must not be in the plan."""

    def bound(self, limit: str) -> float | None:
        """The bound of a limit, by its name in `LIMITS`; `None` where it is not limited. Raises `KeyError` for another name."""
        value: float | None = getattr(self, LIMITS[limit].file_key)
        return value


class PlanAlternative(PlanPart):
    """Another plan of the Pareto frontier."""

    id: str
    """The id that a plan file of this stack would have."""
    change: str
    """Techniques added and removed, or the option that differs."""
    gives: str | None = None
    """The metric that it improves by most."""
    costs: str | None = None
    """The metric that it worsens by most."""


class Relax(PlanPart):
    """The smallest change of one limit that makes a plan feasible."""

    limit: str
    """The limit, by its name under `limits`."""
    asked: Number
    """The limit of the question, or the capacity of the device."""
    needed: Number
    """The smallest value that makes a plan feasible."""


class PlanVerdict(PlanPart):
    """Whether the plan meets the limits."""

    status: Literal["meets", "at-risk", "misses"]
    summary: str
    """The verdict in a sentence, with the tightest limit or the one missed by the largest factor."""
    probability: Chance | None = None
    """Probability that all limits are met, memory included; absent in files of older versions."""
    chances: dict[str, Chance] = Field(default={})
    """Probability that each limit is met, by its name under `limits`."""
    outside: str | None = None
    """How the plan differs from every published measurement that predictions were validated with; absent where it does not."""
    layout: str | None = None
    """Why the model is spread over the devices as it is; absent for a single device."""
    arithmetic: str | None = None
    """The type of activations and why it is not the checkpoint's; absent where it is."""
    warnings: tuple[str, ...] = ()
    """What the numbers assume of the machines, and devices that have nothing to do; absent: none."""
    relax: tuple[Relax, ...] = ()
    alternatives: tuple[PlanAlternative, ...] = ()


class PlanModel(PlanPart):
    """The model, and how to identify it."""

    source: Literal["hf", "path", "shipped"]
    name: str
    """Id of the model."""
    path: str | None = None
    """Folder with the weights, if the plan was made from one; a shipped model is found by its name."""
    revision: str | None = None
    """Commit of the model repository."""
    digest: str | None = None
    """Digest of the architecture's `config.json`."""
    family: str | None = None
    """Kind of architecture, as in `advisor models`."""
    parameters: Whole
    """Number of parameters."""


class PlanMachine(PlanPart):
    """The machine that the predictions are for."""

    hardware: str | None = None
    """Id of the accelerator, as `advisor hardware` lists it."""
    profile: str | None = None
    """Name of the measured profile; `null` for the data sheet."""
    fingerprint: str
    """Kind of machine: `sheet:` for a data sheet, else as `advisor hardware detect` shows it."""
    gpus: Annotated[int, Field(ge=0, le=MOST, strict=True)] = 1
    """Number of accelerators; 0 for a CPU."""
    power_limit_w: Positive | None = None
    """Power limit of each accelerator, in watts; absent: that of its data sheet."""
    links: str | None = None
    """How the accelerators are linked."""


class PlanMetric(PlanPart):
    """A predicted value with its 90 % range, its basis, and its limit."""

    value: Number
    """The predicted value."""
    range: tuple[Number, Number]
    """Its 90 % range."""
    basis: Basis
    """What the prediction is based on, from measured to data sheet."""
    limit: Number | None = None
    """The limit on this metric."""
    ok: bool | None = None
    """Whether the value meets the limit."""


class Predicted(PlanPart):
    """The predicted metrics; each key ends in its unit."""

    __pydantic_extra__: dict[str, PlanMetric]
    memory_gib_per_gpu: dict[str, PlanMetric] = Field(default={})


class PlanReason(PlanPart):
    """Why a technique is in the plan or not."""

    id: str
    """The technique."""
    state: Literal["chosen", "rejected", "not-applicable", "not-considered"]
    why: str
    """The reason, with numbers."""
    would_need: dict[str, Number] | None = None
    """Limits that would admit it."""
    effect: dict[str, Number] | None = None
    """The change of each metric by the technique."""
    sources: tuple[str, ...] = ()
    """Sources of its effect."""


class Quality(PlanPart):
    """How quality was measured; `null` where it is only predicted."""

    suite: str | None = None
    """The text that quality was measured on."""
    baseline: str = "bf16"
    """The model format that quality is compared with."""


class ProfileStamp(PlanPart):
    """The measured profile that the predictions are based on."""

    name: str
    """Name of the profile."""
    taken: str | None = None
    """When it was measured."""
    digest: str | None = None
    """SHA-256 of its content, shortened."""


class Candidates(PlanPart):
    """The size of the search."""

    considered: Annotated[int, Field(ge=0, le=MOST)]
    """Stacks that were priced."""
    feasible: Annotated[int, Field(ge=0, le=MOST)]
    """Stacks that meet the limits."""
    frontier: Annotated[int, Field(ge=0, le=MOST)]
    """Stacks on the Pareto frontier."""


class Provenance(PlanPart):
    """Version, time and inputs of the plan."""

    advisor: str
    """Version that made the plan."""
    created: str
    """Time of creation, or SOURCE_DATE_EPOCH; a change of it alone does not rewrite the file."""
    digest: str
    """SHA-256 of limits, apply, model and machine, shortened; detects later edits."""
    profile: ProfileStamp | None = None
    """The measured profile that the predictions are based on; absent for a data sheet."""
    candidates: Candidates | None = None
    """The size of the search."""
