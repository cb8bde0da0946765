"""The plan file: what `advisor plan` decides and `advisor apply` runs, as a validated record.

The decision stands first, what a machine recorded last. Keys that this version does not know are kept.
"""

import hashlib
import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from advisor.profiles.request import Limits, Load, Prefer, Request, Workload

FORMAT = "1.0"
MAJOR = FORMAT.split(".")[0]

Whole = Annotated[int, Field(ge=1, strict=True)]
Positive = Annotated[float, Field(gt=0, strict=True)]
Number = Annotated[float, Field(strict=True)]
Basis = Literal[
    "exact", "setting", "measured", "profiled", "catalogue", "architecture", "literature", "datasheet", "simulated", "sum"
]  # fmt: skip


class PlanPart(BaseModel):
    """A frozen section that keeps the keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    def unknown_keys(self, path: str = "") -> Iterator[str]:
        """Dotted names of every key that this version of advisor does not know."""
        yield from (f"{path}{key}" for key in (self.model_extra or {}) if "__pydantic_extra__" not in type(self).__annotations__)
        for name in type(self).model_fields:
            value = getattr(self, name)
            parts = value if isinstance(value, tuple) else (value,)
            for part in parts:
                if isinstance(part, PlanPart):
                    yield from part.unknown_keys(f"{path}{name}.")


class PlanLimits(PlanPart):
    """What was asked. `null` is not limited."""

    task: Literal["inference", "training"] = "inference"
    prefer: Prefer = Prefer.BALANCED
    context_tokens: Whole
    """The longest that a sequence may become, output included."""
    prompt_tokens: Whole | None = None
    """Usual length of a prompt; absent: all of the context but the output."""
    output_tokens: Whole
    load: Load | None = None
    """How requests arrive; absent: closed with a concurrency, open with a rate."""
    oversubscribe: bool | None = None
    """Size the cache for the usual length and preempt when it runs dry; absent: all requests may be longest at once."""
    concurrency: Whole | None = None
    request_rate_per_s: Positive | None = None
    ttft_ms_p95: Positive | None = None
    tpot_ms_p95: Positive | None = None
    throughput_tok_s: Positive | None = None
    """Minimum, output tokens, all requests together."""
    memory_gib_per_gpu: Positive | None = None
    """Maximum per device; of the process's memory on a CPU."""
    quality_drop_pct: Annotated[float, Field(ge=0, strict=True)] | None = None
    """Maximum perplexity increase over the unmodified model."""
    require: tuple[str, ...] = ()
    forbid: tuple[str, ...] = ()


class Alternative(PlanPart):
    """Another frontier point worth a look."""

    id: str
    change: str
    gives: str | None = None
    costs: str | None = None


class Relax(PlanPart):
    """The smallest change of one limit that would let a plan in."""

    limit: str
    asked: Number
    needed: Number


class Verdict(PlanPart):
    """How the plan stands against the limits."""

    status: Literal["meets", "at-risk", "misses"]
    summary: str
    relax: tuple[Relax, ...] = ()
    alternatives: tuple[Alternative, ...] = ()


class PlanModel(PlanPart):
    """Which model, and how to know it again."""

    source: Literal["hf", "path"]
    name: str
    path: str | None = None
    revision: str | None = None
    digest: str | None = None
    """Of the architecture: its `config.json`."""
    family: str | None = None
    parameters: Whole


class Machine(PlanPart):
    """What the numbers are for."""

    hardware: str | None = None
    profile: str | None = None
    """Name of the measured profile; `null` for the data sheet."""
    fingerprint: str
    gpus: Annotated[int, Field(ge=0, strict=True)] = 1
    """Accelerators used; 0 for a CPU."""
    links: str | None = None


class Engine(PlanPart):
    """What runs the plan; `advisor` is our own runtime."""

    name: str = "advisor"
    version: str | None = None


class ParallelChoice(PlanPart):
    """How the model is spread."""

    tensor: Whole = 1
    pipeline: Whole = 1
    data: Whole = 1
    expert: Whole = 1


class WeightsChoice(PlanPart):
    """How matrices are stored."""

    dtype: str
    group_size: Whole | None = None
    keep: tuple[str, ...] = ()
    """Kinds of matrices that stay in the model's own format."""


class CacheChoice(PlanPart):
    """Where keys and values live."""

    dtype: str = "bf16"
    layout: str = "contiguous"
    block_tokens: Whole | None = None


class AttentionChoice(PlanPart):
    """What computes attention."""

    backend: str = "eager"


class BatchingChoice(PlanPart):
    """Which requests share a step."""

    policy: str = "continuous"
    max_num_seqs: Whole = 1
    max_batched_tokens: Whole | None = None
    """Most tokens in a step, prompts cut to fit; `null` for whole prompts."""


class Acceptance(PlanPart):
    """Expected share of proposed tokens accepted, with its 90 % range."""

    value: Number
    range: tuple[Number, Number]


class Speculation(PlanPart):
    """How tokens are proposed ahead."""

    method: str
    draft_tokens: Whole = 1
    draft_folder: str | None = None
    acceptance: Acceptance | None = None


class TechniqueChoice(PlanPart):
    """A technique with its options, in order of application."""

    name: str
    options: dict[str, Any] = {}


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


class PlanMetric(PlanPart):
    """A number with its 90 % range, how it is known, and the limit it stands against."""

    value: Number
    range: tuple[Number, Number]
    basis: Basis
    limit: Number | None = None
    ok: bool | None = None


class Predicted(PlanPart):
    """What the plan is predicted to do; the unit stands in each key."""

    __pydantic_extra__: dict[str, PlanMetric]
    memory_gib_per_gpu: dict[str, PlanMetric] = {}


class PlanReason(PlanPart):
    """Why a technique is in the plan or out of it."""

    id: str
    state: Literal["chosen", "rejected", "not-applicable", "not-considered"]
    why: str
    would_need: dict[str, Number] | None = None
    effect: dict[str, Number] | None = None
    sources: tuple[str, ...] = ()


class Quality(PlanPart):
    """What quality was measured on; `null` while it is only expected."""

    suite: str | None = None
    baseline: str = "bf16"


class ProfileStamp(PlanPart):
    """Which measurement the numbers rest on."""

    name: str
    taken: str | None = None
    digest: str | None = None


class Candidates(PlanPart):
    """How wide the search was."""

    considered: Annotated[int, Field(ge=0)]
    feasible: Annotated[int, Field(ge=0)]
    frontier: Annotated[int, Field(ge=0)]


class Provenance(PlanPart):
    """Who made the file, when, from what."""

    advisor: str
    created: str
    digest: str
    profile: ProfileStamp | None = None
    candidates: Candidates | None = None


class PlanFile(PlanPart):
    """One plan, as in `plan.yaml`."""

    kind: Literal["Plan"]
    format: Annotated[str, Field(pattern=r"^1\.\d+$")]
    id: str
    title: str
    limits: PlanLimits
    verdict: Verdict
    model: PlanModel
    machine: Machine
    apply: Apply
    predicted: Predicted
    techniques: tuple[PlanReason, ...]
    quality: Quality = Quality()
    export: dict[str, Any] | None = None
    measured: dict[str, Any] | None = None
    provenance: Provenance

    @property
    def edited(self) -> bool:
        """Whether somebody changed the limits or the decision after the plan was made."""
        return not self.provenance.digest.startswith(f"sha256:{plan_digest(self.limits, self.apply, self.model, self.machine)[:12]}")


def plan_digest(limits: PlanLimits, apply: Apply, model: PlanModel, machine: Machine) -> str:
    """What makes two plans the same plan, as SHA-256; no clock and no prediction in it."""
    record = {
        "limits": limits.model_dump(mode="json"),
        "apply": apply.model_dump(mode="json"),
        "model": model.digest or model.revision or model.name,
        "machine": machine.fingerprint,
    }
    return hashlib.sha256(json.dumps(_canonical(record), sort_keys=True).encode()).hexdigest()


def _canonical(value: Any) -> Any:
    """Without absent keys and without a difference between 1 and 1.0."""
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items() if item is not None and item != [] and item != {}}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def request_of(plan: PlanFile) -> Request:
    """The request that the plan answers."""
    asked = plan.limits
    load = asked.load or (Load.OPEN if asked.request_rate_per_s else Load.CLOSED)
    return Request(
        workload=Workload(
            prompt_tokens=asked.prompt_tokens or asked.context_tokens - asked.output_tokens,
            output_tokens=asked.output_tokens,
            load=load,
            concurrency=asked.concurrency,
            request_rate_per_s=asked.request_rate_per_s,
            context_limit_tokens=asked.context_tokens if asked.prompt_tokens else None,
            oversubscribe=bool(asked.oversubscribe),
        ),
        limits=Limits(
            ttft_ms_p95=asked.ttft_ms_p95,
            tpot_ms_p95=asked.tpot_ms_p95,
            throughput_tok_s=asked.throughput_tok_s,
            memory_gib_per_device=asked.memory_gib_per_gpu,
            quality_loss_pct=asked.quality_drop_pct,
        ),
        prefer=asked.prefer,
        devices=max(plan.machine.gpus, 1),
        require=asked.require,
        forbid=asked.forbid,
    )
