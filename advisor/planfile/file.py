"""The plan file: what `advisor plan` decides and `advisor apply` runs, as a validated record.

The decision is first, recorded values are last. Keys that this version does not know are preserved.
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from advisor.backends.technique_names import canonical_specs
from advisor.planfile.decision import Apply, PlanPart
from advisor.planfile.sections import (
    PlanLimits,
    PlanMachine,
    PlanModel,
    PlanReason,
    PlanVerdict,
    Predicted,
    Provenance,
    Quality,
)
from advisor.profiles.errors import AdvisorError, ExitCode
from advisor.profiles.request import LENGTH_SPREAD, Limits, Load, Request, UseCase, Workload
from advisor.profiles.trace import read_trace
from advisor.quantities.limits import LIMITS

FORMAT = "1.0"
MAJOR = FORMAT.split(".")[0]


class PlanFile(PlanPart):
    """One plan, as in `plan.yaml`."""

    kind: Literal["Plan"]
    format: Annotated[str, Field(pattern=r"^1\.\d+$")]
    """Version of this layout. Minor versions add keys; readers refuse another major."""
    id: Annotated[str, Field(pattern=r"^plan-[0-9a-f]{8}$")]
    """`plan-` and eight hex digits of the digest over limits, apply, model and machine."""
    title: str
    """Model, load and machine of the plan in one line."""
    limits: PlanLimits
    verdict: PlanVerdict
    model: PlanModel
    machine: PlanMachine
    apply: Apply
    predicted: Predicted
    techniques: tuple[PlanReason, ...]
    quality: Quality = Quality()
    export: dict[str, Any] | None = None
    """The decision as options of serving engines; derived from `apply`, never read back."""
    measured: dict[str, Any] | None = None
    """Measured metrics that are published with the plan; `advisor apply` never writes it."""
    provenance: Provenance

    @property
    def edited(self) -> bool:
        """Whether the id, the limits or the decision were changed after the plan was made."""
        digest = plan_digest(self.limits, self.apply, self.model, self.machine)
        return not self.provenance.digest.startswith(f"sha256:{digest[:12]}") or self.id != plan_id(digest)


def plan_digest(limits: PlanLimits, apply: Apply, model: PlanModel, machine: PlanMachine) -> str:
    """SHA-256 over what identifies a plan: limits, decision, model and machine; neither the time nor predictions."""
    record = {
        "limits": limits.model_dump(mode="json"),
        "apply": apply.model_dump(mode="json"),
        "model": model.digest or model.revision or model.name,
        "machine": machine.fingerprint,
        "power_limit_w": machine.power_limit_w,
    }
    return hashlib.sha256(json.dumps(_canonical(record), sort_keys=True).encode()).hexdigest()


def plan_id(digest: str) -> str:
    """The id of a plan with that `plan_digest`."""
    return f"plan-{digest[:8]}"


def _canonical(value: Any) -> Any:
    """The value without absent keys, and with whole floats as integers."""
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items() if item is not None and item != [] and item != {}}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def request_of(plan: PlanFile) -> Request:
    """The request that the plan answers. Raises `AdvisorError` `plan-field` for limits that contradict each other after an edit."""
    try:
        return _request(plan)
    except ValidationError as error:
        first = error.errors()[0]
        reason = first["msg"].removeprefix("Value error, ").lower()
        field = ".".join(map(str, first["loc"]))
        raise AdvisorError(
            "plan-field",
            f"the plan's limits contradict each other: {field + ': ' if field else ''}{reason}",
            exit_code=ExitCode.USAGE,
            help=("edit `limits` so that they describe one load",),
        ) from error


def _request(plan: PlanFile) -> Request:
    stated = plan.limits
    load = stated.load or (Load.OPEN if stated.request_rate_per_s else Load.CLOSED)
    trace = read_trace(Path(stated.load_trace)) if stated.load_trace else None
    return Request(
        workload=Workload(
            prompt_tokens=stated.prompt_tokens or stated.context_tokens - stated.output_tokens,
            output_tokens=stated.output_tokens,
            load=load,
            concurrency=stated.concurrency,
            request_rate_per_s=stated.request_rate_per_s,
            trace=trace,
            shared_prefix_tokens=stated.shared_prefix_tokens,
            context_limit_tokens=stated.context_tokens if stated.prompt_tokens else None,
            length_spread=LENGTH_SPREAD if stated.length_spread is None else stated.length_spread,
            use_case=stated.use_case or UseCase.UNKNOWN,
            oversubscribe=bool(stated.oversubscribe),
        ),
        limits=Limits(**{limit: stated.bound(limit) for limit in LIMITS}),
        prefer=stated.prefer,
        devices=max(plan.machine.gpus, 1),
        require=canonical_specs(stated.require),
        forbid=stated.forbid,
    )
