"""The one door behind the command line and the session: questions in, frozen answers out. Prints nothing."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from advisor.advice import Advice
from advisor.backends.deployment import Attention, Batching, Deployment, KvCache, Parallel, Weights
from advisor.backends.detect import detect, detected_hardware, fingerprint
from advisor.backends.events import OnEvent
from advisor.backends.technique import Slot
from advisor.backends.techniques import by_name
from advisor.estimate.catalogue import CatalogueMachine
from advisor.estimate.estimator import Estimator
from advisor.estimate.machine import Machine
from advisor.estimate.measured import ProfiledMachine
from advisor.numbers import quantity
from advisor.planner import Planner
from advisor.plans.file import PlanFile
from advisor.profiles.engines import EngineProfile, load_engine
from advisor.profiles.errors import AdvisorError, ExitCode
from advisor.profiles.evidence import load_evidence
from advisor.profiles.formats import check_cache_format, parse_weights
from advisor.profiles.hardware import Hardware, load_hardware
from advisor.profiles.machine import MachineProfile
from advisor.profiles.metrics import Metrics
from advisor.profiles.model_store import find_model
from advisor.profiles.models import ModelSpec
from advisor.profiles.request import Limits, Load, Prefer, Request, Workload
from advisor.profiles.run import Run
from advisor.profiles.store import fresh_profile, load_profile
from advisor.profiles.trace import Trace

if TYPE_CHECKING:  # loaded by the one question that needs it
    from advisor.accuracy import ValidationReport

CHAT_PROMPT_TOKENS = 1024
CHAT_OUTPUT_TOKENS = 256
"""A turn of a chat with its history: what is planned for when lengths are not given."""
DEFAULT_CONTEXT_TOKENS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanQuestion:
    """What `advisor plan` was asked. `None` means not limited or not said."""

    model: str
    hardware: str | None = None
    devices: int = 1
    profile: str = "auto"
    engine: str = "advisor"
    ttft_ms: float | None = None
    tpot_ms: float | None = None
    throughput_tok_s: float | None = None
    memory_gib: float | None = None
    context_tokens: int | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    concurrency: int | None = None
    request_rate_per_s: float | None = None
    burst: int | None = None
    """Requests that come at once, and nobody follows."""
    trace: Trace | None = None
    """Requests that come, with their lengths."""
    quality_loss_pct: float | None = None
    prefer: str = "balanced"
    require: tuple[str, ...] = ()
    forbid: tuple[str, ...] = ()
    offline: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateQuestion:
    """One explicit way to run a model."""

    model: str
    hardware: str
    devices: int = 1
    engine: str = "advisor"
    weights: str | None = None
    kv: str | None = None
    tp: int = 1
    pp: int = 1
    prompt_tokens: int | None = None
    """Given, as the answer's, unless there is a trace."""
    output_tokens: int | None = None
    concurrency: int | None = None
    request_rate_per_s: float | None = None
    burst: int | None = None
    trace: Trace | None = None
    offline_load: bool = False
    ttft_ms: float | None = None
    tpot_ms: float | None = None
    profile: str = "auto"

    @property
    def limits(self) -> Limits:
        """What goodput and verdicts are told by."""
        return Limits(ttft_ms_p95=self.ttft_ms, tpot_ms_p95=self.tpot_ms, request_rate_per_s=self.request_rate_per_s)


@dataclass(frozen=True, slots=True)
class Place:
    """The machine that is planned for, and how well it is known."""

    hardware: Hardware
    machine: Machine
    profile: str | None


def plan(question: PlanQuestion, on_event: OnEvent | None = None) -> Advice:
    """Find the best stack. Raises `AdvisorError` for what cannot be resolved; a request that nothing meets is an answer."""
    model = find_model(question.model, offline=question.offline)
    request = request_for(question, model)
    engine = load_engine(question.engine)
    place = find_place(question.hardware, question.profile, engine, on_event)
    planner = planner_for(model, place, engine)
    advice = planner.advise(request)
    outside = planner.estimator.domain(advice.chosen.deployment, request.workload)
    if outside and on_event is not None:
        on_event(f"note: {outside}; ranges are wider for it")
    return advice


def planner_for(model: ModelSpec, place: Place, engine: EngineProfile) -> Planner:
    """The planner of a model at a place."""
    return Planner(model, place.hardware, Estimator(place.machine, engine), load_evidence(), place.profile)


@dataclass(frozen=True, slots=True)
class Priced:
    """What one explicit stack is predicted to do."""

    metrics: Metrics
    outside: str | None
    """Why the setting is unlike all that was compared with measurements: its ranges are wider."""


def estimate(question: EstimateQuestion, on_event: OnEvent | None = None) -> Metrics:
    """Price one explicit stack: no search. What makes the numbers hypothetical, such as too little memory, is said as a note."""
    return price(question, on_event).metrics


def price(question: EstimateQuestion, on_event: OnEvent | None = None) -> Priced:
    """Price one explicit stack, and say where its setting is a new one."""
    model = find_model(question.model)
    engine = load_engine(question.engine)
    place = find_place(question.hardware, question.profile, engine, on_event)
    workload = workload_of(
        question.prompt_tokens or 1,
        question.output_tokens or 1,
        concurrency=question.concurrency,
        request_rate_per_s=question.request_rate_per_s,
        burst=question.burst,
        trace=question.trace,
        offline=question.offline_load,
    )
    deployment = explicit_deployment(model, engine, question, workload)
    estimator = Estimator(place.machine, engine)
    served = estimator.serve(deployment, workload)
    metrics = estimator.metrics_of(deployment, workload, served)
    metrics = metrics.model_copy(update={"goodput_per_s": estimator.goodput(deployment, workload, served, question.limits)})
    for doubt in _doubts(model, workload, metrics, estimator.budget_bytes):
        if on_event is not None:
            on_event(f"note: {doubt}")
    return Priced(metrics, estimator.domain(deployment, workload))


def apply(
    plan: PlanFile, *, model_folder: Path | None, out: Path, on_event: OnEvent, cancel: threading.Event | None = None, quick: bool = False
) -> Run:
    """Run baseline and ladder for real, write `run.json` and `report.html` into `out`."""
    # Deferred: planning needs none of it.
    from advisor.application import apply_plan

    return apply_plan(plan, model_folder=model_folder, out=out, on_event=on_event, cancel=cancel, quick=quick)


def validate(cases: Path, rows: Path | None, on_event: OnEvent | None = None, *, html: Path | None = None) -> "ValidationReport":
    """Predict published measurements and report the errors; `rows` and `html` are files to write."""
    # Deferred: planning needs none of it.
    from advisor.validate import validate_file

    return validate_file(cases, rows, on_event, html=html)


def run_profile(name: str | None, on_event: OnEvent | None = None, *, budget_s: float | None = None) -> MachineProfile:
    """Measure this machine in a child process and store what was found."""
    # Deferred: planning needs none of it.
    from advisor.profiling import profile_this_machine

    return profile_this_machine(name, on_event, budget_s=budget_s)


def request_for(question: PlanQuestion, model: ModelSpec) -> Request:
    """The request behind a question, lengths filled in as for a chat."""
    _check_techniques(question)
    longest = question.context_tokens or _default_context(question, model)
    if longest > model.max_context_tokens:
        raise AdvisorError(
            "context-too-long",
            f"{model.id} was made for {model.max_context_tokens} tokens, {longest} are asked for",
            exit_code=ExitCode.USAGE,
            help=(f"write --context {model.max_context_tokens} or less",),
        )
    if question.trace is not None and question.trace.longest_tokens > longest:
        raise AdvisorError(
            "usage",
            f"the longest request of {question.trace.name} has {question.trace.longest_tokens} tokens, the context {longest}",
            exit_code=ExitCode.USAGE,
            help=(f"write --context {question.trace.longest_tokens} or more",),
        )
    output = question.output_tokens or min(CHAT_OUTPUT_TOKENS, max(longest // 4, 1))
    prompt = question.prompt_tokens or min(CHAT_PROMPT_TOKENS, longest - output)
    if prompt < 1 or prompt + output > longest:
        raise AdvisorError(
            "usage",
            f"a prompt of {max(prompt, 0)} and an answer of {output} tokens do not fit in a context of {longest}",
            exit_code=ExitCode.USAGE,
            help=(f"write --context {max(prompt, 1) + output} or more",),
        )
    workload = workload_of(
        prompt,
        output,
        concurrency=question.concurrency,
        request_rate_per_s=question.request_rate_per_s,
        burst=question.burst,
        trace=question.trace,
    )
    return Request(
        workload=workload.model_copy(update={"context_limit_tokens": longest}),
        limits=Limits(
            ttft_ms_p95=question.ttft_ms,
            tpot_ms_p95=question.tpot_ms,
            throughput_tok_s=question.throughput_tok_s,
            request_rate_per_s=question.request_rate_per_s,
            memory_gib_per_device=question.memory_gib,
            quality_loss_pct=question.quality_loss_pct,
        ),
        prefer=Prefer(question.prefer),
        devices=question.devices,
        require=question.require,
        forbid=question.forbid,
    )


def _check_techniques(question: PlanQuestion) -> None:
    """Raise `AdvisorError` for an unknown technique, and for two that are required where there is room for one."""
    for name in question.forbid:
        by_name(name)
    taken: dict[Slot, str] = {}
    for name in dict.fromkeys(question.require):
        slot = by_name(name).slot
        if slot in taken:
            raise AdvisorError(
                "usage",
                f"`{taken[slot]}` and `{name}` are both required, and a plan holds one of them",
                exit_code=ExitCode.USAGE,
                help=(f"drop --require {taken[slot]} or --require {name}",),
            )
        taken[slot] = name


def workload_of(
    prompt_tokens: int,
    output_tokens: int,
    *,
    concurrency: int | None = None,
    request_rate_per_s: float | None = None,
    burst: int | None = None,
    trace: Trace | None = None,
    offline: bool = False,
) -> Workload:
    """A workload from what was said of the load; one request at a time when nothing was. A trace has its own lengths."""
    if trace is not None:
        return Workload(
            prompt_tokens=trace.prompt_tokens,
            output_tokens=trace.output_tokens,
            load=Load.TRACE,
            trace=trace,
            context_limit_tokens=trace.longest_tokens,
        )
    load = Load.BURST if burst else Load.OFFLINE if offline else Load.OPEN if request_rate_per_s else Load.CLOSED
    return Workload(
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        load=load,
        concurrency=burst or concurrency or (1 if load is Load.CLOSED else None),
        request_rate_per_s=request_rate_per_s if load is Load.OPEN else None,
    )


def find_place(hardware: str | None, profile: str, engine: EngineProfile, on_event: OnEvent | None) -> Place:
    """Resolve `--hardware` and `--profile` to a machine that prices operators.

    `auto` takes this machine's profile while it is fresh, `now` measures first, `none` uses the data sheet, anything else
    names a stored profile or a file. Raises `AdvisorError` `profile-elsewhere` when that is of other hardware, or `now` would be.
    """
    if profile not in ("auto", "now", "none"):
        taken = load_profile(profile)
        if hardware not in (None, taken.hardware.id):
            raise AdvisorError(
                "profile-elsewhere",
                f"the profile {profile} was taken on {taken.hardware.id}, not on {hardware}",
                exit_code=ExitCode.MISSING,
                help=(f"drop --hardware {hardware}, or drop --profile to plan from the data sheet",),
            )
        return _profiled(taken)
    here = detect()
    local = detected_hardware(here)
    if hardware is not None and hardware != local.id:
        if profile == "now":
            raise AdvisorError(
                "profile-elsewhere",
                f"`--profile` measures this machine, which is {local.id}, not {hardware}",
                exit_code=ExitCode.MISSING,
                help=("drop --profile to plan from the data sheet", "or --profile=NAME for a profile taken there"),
            )
        return _from_sheet(load_hardware(hardware), engine)
    if profile == "now":
        return _profiled(run_profile(None, on_event))
    stored = fresh_profile(fingerprint(here)) if profile == "auto" else None
    if stored is not None:
        return _profiled(stored)
    if on_event is not None and profile == "auto":
        on_event("note: no fresh profile of this machine; numbers come from its data sheet. `--profile` measures it in about a minute")
    return _from_sheet(local, engine)


def explicit_deployment(model: ModelSpec, engine: EngineProfile, question: EstimateQuestion, workload: Workload) -> Deployment:
    """The deployment that flags describe: paged, fused attention, continuous batches, as engines run by default."""
    format, group = parse_weights(question.weights or model.weight_format)
    shards = question.tp * question.pp
    if question.devices % shards:
        raise AdvisorError(
            "usage",
            f"{question.devices} devices cannot be split into groups of {question.tp} x {question.pp}",
            exit_code=ExitCode.USAGE,
            help=(f"write --devices {shards} or a multiple of it",),
        )
    if model.hidden_size % question.tp or question.pp > len(model.layers):
        raise AdvisorError(
            "usage",
            f"{model.id} cannot be split: hidden size {model.hidden_size} by --tp {question.tp}, "
            f"{len(model.layers)} layers by --pp {question.pp}",
            exit_code=ExitCode.USAGE,
            help=("choose a --tp that divides the hidden size and no more --pp than layers",),
        )
    kv = check_cache_format(question.kv) if question.kv else engine.kv_format_for(format)
    return Deployment(
        model=model,
        weights=Weights(format, group),
        attention=Attention("sdpa"),
        kv=KvCache("paged", engine.block_tokens, kv),
        batching=Batching("continuous", workload.concurrency or engine.max_sequences, 0),
        parallel=Parallel(tensor=question.tp, pipeline=question.pp, data=question.devices // shards),
        engine=engine.name,
    )


def _doubts(model: ModelSpec, workload: Workload, metrics: Metrics, budget_bytes: float) -> Iterator[str]:
    """What speaks against running the stack that was priced."""
    if workload.context_tokens > model.max_context_tokens:
        yield f"{model.id} was made for {model.max_context_tokens} tokens, {workload.context_tokens} are asked for"
    fitting, needed = metrics.max_concurrency, metrics.peak_memory_gib
    if fitting is not None and needed is not None and fitting.value < 1:
        yield (
            f"not even one request fits: {quantity(needed.value, 'GiB')} are needed on each device, "
            f"{quantity(budget_bytes / 2**30, 'GiB')} are there for use; the times are as if they were"
        )


def _default_context(question: PlanQuestion, model: ModelSpec) -> int:
    wanted = (question.prompt_tokens or 0) + (question.output_tokens or 0)
    if question.trace is not None:
        wanted = question.trace.longest_tokens
    return min(max(DEFAULT_CONTEXT_TOKENS, wanted), model.max_context_tokens)


def _profiled(profile: MachineProfile) -> Place:
    return Place(profile.hardware, ProfiledMachine(profile), profile.name)


def _from_sheet(hardware: Hardware, engine: EngineProfile) -> Place:
    return Place(hardware, CatalogueMachine(hardware, engine.cpu if hardware.kind == "cpu" else engine.gpu), None)
