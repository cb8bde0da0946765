"""The steps of `advisor demo`: profile this machine, plan the shipped model, apply the best plan."""

from collections.abc import Callable
from pathlib import Path

from advisor.backends.deployment import baseline
from advisor.backends.detection.detect import detect, detected_hardware, fingerprint
from advisor.backends.processes.child import check_installed
from advisor.backends.processes.events import OnEvent
from advisor.backends.technique import Slot
from advisor.backends.techniques import TECHNIQUES
from advisor.planfile.file import PlanFile
from advisor.planfile.from_advice import plan_of, with_plan_ids
from advisor.planning.advice import Advice
from advisor.planning.advise import advise
from advisor.planning.target import Target, planner_for, resolve_target
from advisor.profiles.architectures.spec import ModelSpec
from advisor.profiles.engines import EngineProfile, load_engine
from advisor.profiles.model_store import find_model
from advisor.profiles.request import Limits, Prefer, Request, Workload
from advisor.profiles.run import Run
from advisor.profiles.store import fresh_profile
from advisor.running.preflight import check_disk
from advisor.service import apply, measure_profile

MODEL = "demo"
WORKLOAD = Workload(prompt_tokens=256, output_tokens=64, concurrency=6, context_limit_tokens=512, length_spread=0.4, oversubscribe=True)
"""Lengths vary as those of a chat do."""
QUALITY_LOSS_PCT = 5.0
PROFILE_S = 45.0
"""Time for the profile: the demo takes at most four minutes in all."""
REQUEST = Request(workload=WORKLOAD, limits=Limits(quality_loss_pct=QUALITY_LOSS_PCT), prefer=Prefer.THROUGHPUT)


def run_demo(out: Path, on_event: OnEvent, on_advice: Callable[[Advice], None], *, quick: bool = False, ladder: bool = False) -> Run:
    """Profile this machine unless a fresh profile is stored, plan, and measure the plan; `on_advice` gets the advice.

    The best plan is measured against the baseline; with `ladder`, a stack with one technique of each slot is, technique by technique.
    Raises `AdvisorError` as profiling and applying do.
    """
    check_installed()
    check_disk(out)
    model, engine = find_model(MODEL), load_engine("advisor")
    if fresh_profile(fingerprint(detect())) is None:
        on_event("measuring this machine, which takes about a minute")
        measure_profile(None, on_event, budget_s=25.0 if quick else PROFILE_S)
    target = resolve_target(None, "auto", engine)
    request = ladder_request(model) if ladder else REQUEST
    advice, plan = plan_demo(model, target, engine, request)
    on_advice(advice)
    on_event(f"planned for {detected_hardware(detect()).name}; the baseline and the plan now run in fresh processes")
    return apply(plan, model_folder=None, out=out, on_event=on_event, quick=quick, ladder=ladder)


def plan_demo(model: ModelSpec, target: Target, engine: EngineProfile, request: Request) -> tuple[Advice, PlanFile]:
    """The advice, with the ids of plan files, and the plan file of the plan that it chooses."""
    advice = advise(planner_for(model, target, engine), request)
    plan = plan_of(advice)
    return with_plan_ids(advice, plan), plan


def ladder_request(model: ModelSpec) -> Request:
    """A request that requires, for each slot but the type of activations, the first technique that accepts the demo's workload.

    That type is the device's fastest already.
    """
    request = REQUEST
    deployment, names = baseline(model, max_sequences=WORKLOAD.concurrency or 1), list[str]()
    for kind in (kind for kind in TECHNIQUES if kind.slot is not Slot.DTYPE):
        accepted = next((variant for variant in kind().variants() if variant.refuse(request, deployment) is None), None)
        if accepted is not None:
            names.append(kind.name)
            deployment = accepted.sketch(deployment, request)
    return request.model_copy(update={"require": tuple(names)})
