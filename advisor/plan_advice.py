"""From the planner's answer to a plan file, and from a plan file back to the deployment that it decided on."""

import dataclasses
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from advisor import __version__, plan_file
from advisor.advice import Advice, Candidate, Miss, Reason
from advisor.backends.deployment import Attention, Batching, Decoding, Deployment, KvCache, Parallel, Weights
from advisor.backends.technique import Technique
from advisor.shown_metrics import BY_LIMIT, CATALOGUE, Shown, keeps, limit_of
from advisor.numbers import number
from advisor.plan_file import PlanFile
from advisor.profiles.machine import MachineProfile
from advisor.profiles.metrics import Value
from advisor.profiles.model_store import find_model
from advisor.profiles.models import ModelSpec
from advisor.profiles.request import Limits, Load, Request

FILE_NAMES = {
    "quality_loss_pct": "quality_drop_pct",
    "memory_gib_per_device": "memory_gib_per_gpu",
    "peak_memory_gib": "memory_gib_per_gpu",
}
"""Metrics and limits that the plan file calls by another name than the code does."""
_MEMORY_PARTS = {"weights_gib": "weights", "kv_cache_gib": "kv_pool", "peak_memory_gib": "total"}
_MOST_ALTERNATIVES = 3


def from_advice(advice: Advice, *, fingerprint: str, profile: MachineProfile | None = None) -> PlanFile:
    """The plan file of the chosen candidate. `fingerprint` is the machine's that the numbers are for."""
    limits = _limits(advice.request)
    model = _model(advice.model)
    machine = plan_file.Machine(
        hardware=advice.hardware.id,
        profile=advice.profile,
        fingerprint=fingerprint,
        gpus=0 if advice.hardware.kind == "cpu" else advice.request.devices,
    )
    applied = apply_of(advice.chosen)
    digest = plan_file.plan_digest(limits, applied, model, machine)

    def id_of(candidate: Candidate) -> str:
        return f"plan-{plan_file.plan_digest(limits, apply_of(candidate), model, machine)[:8]}"

    return PlanFile(
        kind="Plan",
        format=plan_file.FORMAT,
        id=f"plan-{digest[:8]}",
        title=_title(advice),
        limits=limits,
        verdict=plan_file.Verdict(
            status=advice.chosen.status.value,
            summary=summary(advice),
            relax=tuple(
                plan_file.Relax(limit=file_name(item.limit), asked=item.asked, needed=enough(item.limit, item.needed))
                for item in advice.relaxations
            ),
            alternatives=tuple(
                _alternative(id_of(other), other, advice) for other in advice.ranked if other.deployment != advice.chosen.deployment
            )[:_MOST_ALTERNATIVES],
        ),
        model=model,
        machine=machine,
        apply=applied,
        predicted=_predicted(advice),
        techniques=tuple(_reason(reason) for reason in advice.reasons),
        provenance=plan_file.Provenance(
            advisor=__version__,
            created=_now(),
            digest=f"sha256:{digest[:12]}",
            profile=plan_file.ProfileStamp(name=profile.name, taken=profile.taken) if profile else None,
            candidates=plan_file.Candidates(considered=advice.considered, feasible=advice.feasible, frontier=len(advice.ranked)),
        ),
    )


def apply_of(candidate: Candidate) -> plan_file.Apply:
    """Every choice of a candidate's deployment, and its techniques with their options."""
    found = candidate.deployment
    return plan_file.Apply(
        engine=plan_file.Engine(name=found.engine),
        parallel=plan_file.ParallelChoice(**dataclasses.asdict(found.parallel)),
        weights=plan_file.WeightsChoice(
            dtype=found.weights.format, group_size=found.weights.group_size, keep=tuple(sorted(found.weights.kept_kinds))
        ),
        attention=plan_file.AttentionChoice(backend=found.attention.implementation),
        kv_cache=plan_file.CacheChoice(dtype=found.kv.format, layout=found.kv.layout, block_tokens=found.kv.block_tokens or None),
        speculative=_speculation(found.decoding),
        batching=plan_file.BatchingChoice(
            policy=found.batching.policy,
            max_num_seqs=found.batching.max_sequences,
            max_batched_tokens=found.batching.token_budget or None,
        ),
        techniques=tuple(_technique(technique) for technique in candidate.techniques),
    )


def deployment_of(plan: PlanFile, model: ModelSpec) -> Deployment:
    """The deployment that a plan describes. Raises `AdvisorError` when its draft model is not found."""
    chosen = plan.apply
    return Deployment(
        model=model,
        weights=Weights(format=chosen.weights.dtype, group_size=chosen.weights.group_size, kept_kinds=frozenset(chosen.weights.keep)),
        attention=Attention(implementation=chosen.attention.backend),
        kv=KvCache(layout=chosen.kv_cache.layout, block_tokens=chosen.kv_cache.block_tokens or 0, format=chosen.kv_cache.dtype),
        decoding=_decoding(chosen.speculative),
        batching=Batching(
            policy=chosen.batching.policy,
            max_sequences=chosen.batching.max_num_seqs,
            token_budget=chosen.batching.max_batched_tokens or 0,
        ),
        parallel=Parallel(
            tensor=chosen.parallel.tensor, pipeline=chosen.parallel.pipeline, data=chosen.parallel.data, expert=chosen.parallel.expert
        ),
        engine=chosen.engine.name,
    )


def file_name(name: str) -> str:
    """What the plan file calls a metric or a limit."""
    return FILE_NAMES.get(name, name)


def shorter_home(path: str) -> str:
    """A path that does not tell whose home it is in."""
    home = str(Path.home())
    return f"~{path[len(home) :]}" if path == home or path.startswith(home + os.sep) else path


def three_digits(value: float) -> float:
    """Rounded to three significant digits."""
    return float(f"{value:.2e}")


def enough(limit: str, needed: float) -> float:
    """The least round number that still lets a plan in: rounded up for a maximum, down for a minimum."""
    rounded = three_digits(needed)
    shown = BY_LIMIT[limit]
    if keeps(shown, needed, rounded):
        return rounded
    step = 10 ** (len(f"{int(abs(needed))}") - 3) if abs(needed) >= 1 else 10 ** (int(f"{needed:e}".split("e")[1]) - 2)
    return three_digits(rounded - step if shown.higher_is_better else rounded + step)


def _limits(request: Request) -> plan_file.PlanLimits:
    workload, limits = request.workload, request.limits
    return plan_file.PlanLimits(
        prefer=request.prefer,
        context_tokens=workload.context_tokens,
        output_tokens=workload.output_tokens,
        load=Load.OFFLINE if workload.load is Load.OFFLINE else None,
        concurrency=workload.concurrency,
        request_rate_per_s=workload.request_rate_per_s,
        ttft_ms_p95=limits.ttft_ms_p95,
        tpot_ms_p95=limits.tpot_ms_p95,
        throughput_tok_s=limits.throughput_tok_s,
        memory_gib_per_gpu=limits.memory_gib_per_device,
        quality_drop_pct=limits.quality_loss_pct,
        require=request.require,
        forbid=request.forbid,
    )


def _model(spec: ModelSpec) -> plan_file.PlanModel:
    return plan_file.PlanModel(
        source="path" if spec.folder else "hf",
        name=spec.id,
        path=shorter_home(spec.folder) if spec.folder else None,
        digest=spec.config_digest,
        family=spec.family,
        parameters=spec.parameters,
    )


def _speculation(decoding: Decoding) -> plan_file.Speculation | None:
    if decoding.method == "plain":
        return None
    low, high = decoding.acceptance_spread
    return plan_file.Speculation(
        method=decoding.method,
        draft_tokens=decoding.draft_tokens,
        draft_folder=shorter_home(decoding.draft_folder) if decoding.draft_folder else None,
        acceptance=plan_file.Acceptance(value=decoding.acceptance, range=(low, high)),
    )


def _decoding(chosen: plan_file.Speculation | None) -> Decoding:
    if chosen is None:
        return Decoding()
    folder = str(Path(chosen.draft_folder).expanduser()) if chosen.draft_folder else None
    acceptance = chosen.acceptance or plan_file.Acceptance(value=0.0, range=(0.0, 0.0))
    return Decoding(
        method=chosen.method,
        draft_tokens=chosen.draft_tokens,
        acceptance=acceptance.value,
        acceptance_spread=acceptance.range,
        draft_model=find_model(folder) if folder else None,
        draft_folder=folder,
    )


def _technique(technique: Technique) -> plan_file.TechniqueChoice:
    options = {field.name: _option(getattr(technique, field.name)) for field in dataclasses.fields(technique)}
    return plan_file.TechniqueChoice(name=technique.name, options=options)


def _option(value: Any) -> Any:
    if isinstance(value, Path):
        return shorter_home(str(value))
    return shorter_home(value) if isinstance(value, str) else value


def _title(advice: Advice) -> str:
    workload = advice.request.workload
    if workload.load is Load.OPEN:
        load = f"{number(workload.request_rate_per_s or 0, trim=True)} requests a second"
    elif workload.load is Load.OFFLINE:
        load = "offline"
    else:
        load = f"{workload.concurrency} at once"
    return f"{advice.model.id}, {load}, {advice.request.devices} x {advice.hardware.name}"


def summary(advice: Advice) -> str:
    """One sentence on how the chosen candidate stands: the limit it misses by most, or the tightest one it keeps."""
    asked = _asked(advice.request.limits)
    if advice.binding:
        return f"No plan meets all limits; the nearest misses {told_miss(advice.binding)}."
    judged = [(shown, value, limit) for shown, limit in asked if (value := getattr(advice.chosen.metrics, shown.name)) is not None]
    if not judged:
        return f"No limits were set; the best by preference {advice.request.prefer.value}."
    shown, value, limit = max(judged, key=lambda item: _tightness(*item))
    tight = f"the tightest is {file_name(shown.name)}, {number(value.value)} of {number(limit, trim=True)} {shown.unit}"
    risk = " and its range crosses the limit" if not keeps(shown, _worse_end(shown, value), limit) else ""
    return f"All limits met; {tight}{risk}."


def _asked(limits: Limits) -> list[tuple[Shown, float]]:
    return [(shown, limit) for shown in CATALOGUE.values() if (limit := limit_of(shown, limits)) is not None]


def told_miss(miss: Miss) -> str:
    """A missed limit with its numbers, as in `tpot_ms_p95: 21 [19, 24] ms, limit 15`."""
    shown = BY_LIMIT[miss.limit]
    predicted = f"{number(miss.predicted.value)} [{number(miss.predicted.low)}, {number(miss.predicted.high)}]"
    return f"{file_name(miss.limit)}: {predicted} {shown.unit}, limit {number(miss.asked, trim=True)}"


def _tightness(shown: Shown, value: Value, limit: float) -> float:
    """How much of the limit is used up; a minimum is used up where the value is near it."""
    if shown.higher_is_better:
        return limit / value.value if value.value else float("inf")
    return value.value / limit if limit else float("inf")


def _worse_end(shown: Shown, value: Value) -> float:
    return value.low if shown.higher_is_better else value.high


def _predicted(advice: Advice) -> plan_file.Predicted:
    present = advice.chosen.metrics.present()
    limits = {shown.name: limit for shown, limit in _asked(advice.request.limits)}
    metrics = {name: _metric(CATALOGUE[name], value, limits.get(name)) for name, value in present.items()}
    memory = {part: metrics.pop(name) for name, part in _MEMORY_PARTS.items() if name in metrics}
    return plan_file.Predicted(memory_gib_per_gpu=memory, **{file_name(name): metric for name, metric in metrics.items()})


def _metric(shown: Shown, value: Value, limit: float | None) -> plan_file.PlanMetric:
    return plan_file.PlanMetric(
        value=three_digits(value.value),
        range=(three_digits(value.low), three_digits(value.high)),
        basis=value.basis.value,
        limit=limit,
        ok=None if limit is None else keeps(shown, value.value, limit),
    )


def _reason(reason: Reason) -> plan_file.PlanReason:
    return plan_file.PlanReason(
        id=reason.technique,
        state=reason.state.value,
        why=reason.why,
        would_need={file_name(name): enough(name, value) if name in BY_LIMIT else value for name, value in reason.would_need} or None,
        effect={file_name(name): three_digits(value) for name, value in reason.effect} or None,
        sources=reason.sources,
    )


def _alternative(id: str, other: Candidate, advice: Advice) -> plan_file.Alternative:
    changes = [
        (shown, before.value, after.value)
        for shown in CATALOGUE.values()
        if (before := getattr(advice.chosen.metrics, shown.name)) and (after := getattr(other.metrics, shown.name))
    ]
    gains = [change for change in changes if _gain(change) > 0.005]
    losses = [change for change in changes if _gain(change) < -0.005]
    return plan_file.Alternative(
        id=id,
        change=_difference(advice.chosen, other),
        gives=_told(max(gains, key=_gain)) if gains else None,
        costs=_told(min(losses, key=_gain)) + (": misses" if other.misses else "") if losses else None,
    )


def _gain(change: tuple[Shown, float, float]) -> float:
    """Relative improvement; plain difference for metrics near zero, where a percentage says nothing."""
    shown, before, after = change
    step = (after - before) / (abs(before) if shown.relative_error and before else 100)
    return step if shown.higher_is_better else -step


def _told(change: tuple[Shown, float, float]) -> str:
    shown, before, after = change
    return f"{file_name(shown.name)} {number(after)}, was {number(before)}"


def _difference(chosen: Candidate, other: Candidate) -> str:
    """What to add and what to leave out; where the techniques are the same, which setting differs."""
    added = [f"+{name}" for name in other.names if name not in chosen.names]
    left = [f"-{name}" for name in chosen.names if name not in other.names]
    return ", ".join((*added, *left)) or ", ".join(_settings(chosen.deployment, other.deployment)) or "same techniques, other options"


def _settings(chosen: Deployment, other: Deployment) -> Iterable[str]:
    for slot in ("weights", "attention", "kv", "decoding", "batching", "parallel"):
        before, after = getattr(chosen, slot), getattr(other, slot)
        for field in dataclasses.fields(before):
            old, new = getattr(before, field.name), getattr(after, field.name)
            if old != new and isinstance(new, int | str):
                yield f"{slot}.{field.name} {new}, was {old}"


def _now() -> str:
    """The time, or what SOURCE_DATE_EPOCH says it is, so that builds can repeat."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    moment = datetime.fromtimestamp(int(epoch), UTC) if epoch and epoch.isdigit() else datetime.now(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
