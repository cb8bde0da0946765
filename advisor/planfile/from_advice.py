"""From the planner's answer to a plan file."""

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from advisor import __version__
from advisor.backends.detection.detect import detect, detected_hardware
from advisor.backends.detection.detect import fingerprint as fingerprint_of
from advisor.planfile import sections
from advisor.planfile.check import sheet_fingerprint
from advisor.planfile.deployment import apply_of, shorter_home, stored_path
from advisor.planfile.file import FORMAT, PlanFile, plan_digest, plan_id
from advisor.planfile.summary import alternative, bounded_metrics, file_name, round_enough, summary
from advisor.planning.advice import Advice, Candidate, Reason, Relaxation
from advisor.profiles.architectures.spec import ModelSpec
from advisor.profiles.machine import MachineProfile
from advisor.profiles.metrics import Value
from advisor.profiles.model_store import is_shipped
from advisor.profiles.request import LENGTH_SPREAD, Load, Request, UseCase
from advisor.profiles.store import load_profile
from advisor.quantities.formatting import number, on_the_safe_side, three_digits
from advisor.quantities.limits import LIMITS
from advisor.quantities.metrics import METRICS, MetricInfo, satisfies

_MEMORY_PARTS = {"weights_gib": "weights", "kv_cache_gib": "kv_pool", "peak_memory_gib": "total"}
_MOST_ALTERNATIVES = 3


def plan_of(advice: Advice, *, profile_file: Path | None = None) -> PlanFile:
    """The plan file of an advice, stamped with the profile it rests on and the machine it is for.

    `profile_file` is the file of the profile where it is not in the store. Raises `AdvisorError` where the profile no longer exists.
    """
    if advice.profile is not None:
        profile = load_profile(profile_file or advice.profile)
        return from_advice(advice, fingerprint=profile.fingerprint, profile=profile)
    here = detect()
    if detected_hardware(here).id == advice.hardware.id:
        return from_advice(advice, fingerprint=fingerprint_of(here))
    return from_advice(advice, fingerprint=sheet_fingerprint(advice.hardware.id, advice.request.devices))


def from_advice(advice: Advice, *, fingerprint: str, profile: MachineProfile | None = None) -> PlanFile:
    """The plan file of the chosen candidate. `fingerprint` is the machine's that the numbers are for."""
    limits = _limits(advice.request)
    model = _model(advice.model)
    machine = sections.PlanMachine(
        hardware=advice.hardware.id,
        profile=shorter_home(advice.profile) if advice.profile else None,
        fingerprint=fingerprint,
        power_limit_w=advice.hardware.power_limit_w,
        gpus=0 if advice.hardware.kind == "cpu" else advice.request.devices,
    )
    applied = apply_of(advice.chosen)

    def digest_of(candidate: Candidate) -> str:
        return plan_digest(limits, apply_of(candidate), model, machine)

    digest = digest_of(advice.chosen)
    others = [other for other in advice.ranked if other != advice.chosen]
    return PlanFile(
        kind="Plan",
        format=FORMAT,
        id=plan_id(digest),
        title=_title(advice),
        limits=limits,
        verdict=sections.PlanVerdict(
            status=advice.chosen.status.value,
            summary=summary(advice),
            probability=on_the_safe_side(advice.chosen.probability, up=False),
            chances={file_name(limit): on_the_safe_side(chance, up=False) for limit, chance in advice.chosen.probabilities},
            outside=advice.extrapolation_warning,
            layout=advice.layout_reason or None,
            arithmetic=advice.arithmetic_reason or None,
            warnings=advice.warnings,
            relax=tuple(_relax(item) for item in advice.relaxations),
            alternatives=tuple(alternative(plan_id(digest_of(other)), other, advice) for other in others[:_MOST_ALTERNATIVES]),
        ),
        model=model,
        machine=machine,
        apply=applied,
        predicted=_predicted(advice),
        techniques=tuple(_reason(reason) for reason in advice.reasons),
        provenance=sections.Provenance(
            advisor=__version__,
            created=_now(),
            digest=f"sha256:{digest[:12]}",
            profile=sections.ProfileStamp(name=profile.name, taken=profile.taken, digest=_digest(profile)) if profile else None,
            candidates=sections.Candidates(considered=advice.considered, feasible=advice.feasible, frontier=len(advice.ranked)),
        ),
    )


def plan_ids(advice: Advice, candidates: Sequence[Candidate], *, profile_file: Path | None = None) -> list[str]:
    """The id of each candidate's plan file. Arguments and errors as of `plan_of`."""
    plan = plan_of(advice, profile_file=profile_file)
    return [plan_id(plan_digest(plan.limits, apply_of(candidate), plan.model, plan.machine)) for candidate in candidates]


def with_plan_ids(advice: Advice, plan: PlanFile) -> Advice:
    """The advice with the id of each candidate's plan file in place of the candidate's."""

    def renamed(candidate: Candidate) -> Candidate:
        digest = plan_digest(plan.limits, apply_of(candidate), plan.model, plan.machine)
        return dataclasses.replace(candidate, id=plan_id(digest))

    return dataclasses.replace(advice, chosen=renamed(advice.chosen), ranked=tuple(renamed(candidate) for candidate in advice.ranked))


def _limits(request: Request) -> sections.PlanLimits:
    workload, limits = request.workload, request.limits
    return sections.PlanLimits(
        prefer=request.prefer,
        context_tokens=workload.context_limit_tokens or workload.context_tokens,
        prompt_tokens=workload.prompt_tokens if workload.context_limit_tokens else None,
        output_tokens=workload.output_tokens,
        shared_prefix_tokens=workload.shared_prefix_tokens,
        length_spread=workload.length_spread if workload.length_spread != LENGTH_SPREAD else None,
        use_case=workload.use_case if workload.use_case is not UseCase.UNKNOWN else None,
        oversubscribe=workload.oversubscribe or None,
        load=workload.load if workload.load not in (Load.CLOSED, Load.OPEN) else None,
        concurrency=workload.concurrency,
        request_rate_per_s=workload.request_rate_per_s,
        load_trace=workload.trace.name if workload.trace is not None else None,
        require=request.require,
        forbid=request.forbid,
        **{limit.file_key: limits.bound(limit.name) for limit in LIMITS.values() if not limit.is_load},
    )


def _relax(item: Relaxation) -> sections.Relax:
    bound = three_digits(item.bound) if item.limit in LIMITS else item.bound
    return sections.Relax(limit=file_name(item.limit), asked=bound, needed=round_enough(item.limit, item.needed))


def _model(spec: ModelSpec) -> sections.PlanModel:
    return sections.PlanModel(
        source="shipped" if is_shipped(spec.folder) else "path" if spec.folder else "hf",
        name=spec.id,
        path=stored_path(spec.folder),
        digest=spec.config_digest,
        family=spec.family,
        parameters=spec.parameters,
    )


def _digest(profile: MachineProfile) -> str:
    return f"sha256:{hashlib.sha256(profile.model_dump_json().encode()).hexdigest()[:12]}"


def _title(advice: Advice) -> str:
    workload = advice.request.workload
    if workload.load is Load.OPEN:
        load = f"{number(workload.request_rate_per_s or 0, trim=True)} requests a second"
    elif workload.load is Load.OFFLINE:
        load = "offline"
    elif workload.trace is not None:
        load = f"{len(workload.trace.requests)} requests of a trace"
    elif workload.load is Load.BURST:
        load = f"a burst of {workload.concurrency}"
    else:
        load = f"{workload.concurrency} in flight"
    return f"{advice.model.id}, {load}, {advice.request.devices} x {advice.hardware.name}"


def _predicted(advice: Advice) -> sections.Predicted:
    present = advice.chosen.metrics.present()
    limits = {shown.name: limit for shown, limit in bounded_metrics(advice.limits)}
    metrics = {name: _metric(METRICS[name], value, limits.get(name)) for name, value in present.items()}
    memory = {part: metrics.pop(name) for name, part in _MEMORY_PARTS.items() if name in metrics}
    return sections.Predicted(memory_gib_per_gpu=memory, **{file_name(name): metric for name, metric in metrics.items()})


def _metric(shown: MetricInfo, value: Value, limit: float | None) -> sections.PlanMetric:
    return sections.PlanMetric(
        value=three_digits(value.value),
        range=(three_digits(value.low), three_digits(value.high)),
        basis=value.basis.value,
        limit=limit,
        ok=None if limit is None else satisfies(shown, value.value, limit),
    )


def _reason(reason: Reason) -> sections.PlanReason:
    return sections.PlanReason(
        id=reason.technique,
        state=reason.state.value,
        why=reason.why,
        would_need={file_name(name): round_enough(name, value) if name in LIMITS else value for name, value in reason.would_need} or None,
        effect={file_name(name): three_digits(value) for name, value in reason.effect} or None,
        sources=reason.sources,
    )


def _now() -> str:
    """The current time, or that of SOURCE_DATE_EPOCH for reproducible files."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    moment = datetime.fromtimestamp(int(epoch), UTC) if epoch and epoch.isdigit() else datetime.now(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
