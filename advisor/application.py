"""Applies a plan for real: predicts each rung of the ladder, measures it in a fresh process, writes the run and its report."""

import platform
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from advisor.backends.deployment import Deployment, baseline
from advisor.backends.detect import Detected, detect, detected_hardware, fingerprint
from advisor.backends.events import Event, Failed, OnEvent, Progress
from advisor.backends.launch import check_installed
from advisor.backends.load import check_draft, check_tokenizer
from advisor.backends.measure.jobs import Chosen
from advisor.backends.measure.ladder import Ladder, Step, run_ladder
from advisor.backends.packages import versions
from advisor.backends.technique import Technique
from advisor.backends.techniques import options_of
from advisor.plans.check import check_decision, check_machine, check_model
from advisor.plans.choices import deployment_of, techniques_of
from advisor.plans.file import PlanFile, request_of
from advisor.plans.store import save_plan
from advisor.profiles.engines import load_engine
from advisor.profiles.errors import AdvisorError, ExitCode
from advisor.profiles.evidence import load_evidence
from advisor.profiles.metrics import Metrics
from advisor.profiles.model_store import find_model
from advisor.profiles.models import ModelSpec
from advisor.profiles.request import Load, Request
from advisor.profiles.run import Environment, Recipe, Run
from advisor.profiles.store import load_profile
from advisor.profiles.weight_files import weights_on_disk
from advisor.report import write_report
from advisor.search import Stack
from advisor.service import Place, find_place, planner_for

HELD_OUT = Path(__file__).parent / "backends" / "zoo" / "heldout.txt"
"""The text that prompts are cut from and quality is measured on; no shipped model was trained on it."""
PACKAGES = ("torch", "transformers", "triton", "numpy")
REPORT_FILE, PLAN_FILE = "report.html", "plan.yaml"
ROUNDS, QUICK_ROUNDS = 3, 2
"""Requests of a recipe, as a multiple of those in flight."""
DISK_BYTES = 256 * 2**20
"""The baseline's scores and the logs need about so much room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A plan that can be run here, with all that running it takes."""

    plan: PlanFile
    here: Detected
    model: ModelSpec
    folder: Path
    draft_folder: Path | None
    request: Request
    recipe: Recipe
    steps: tuple[Step, ...]
    """The baseline and each technique added, with what is predicted."""


def ready(plan: PlanFile, *, model_folder: Path | None = None, quick: bool = False) -> Ready:
    """Check that a plan can be run here, and price its rungs; nothing is started or written.

    Raises `AdvisorError`: `plan-stale` for another machine or model, `engine-not-applied` for an engine that is not run here,
    `weights-not-found` without a folder, `weights-truncated`, `tokenizer-mismatch`, `draft-not-found` and the like.
    """
    check_installed()
    here = detect()
    check_machine(plan, here)
    if plan.apply.engine.name != "advisor":
        raise AdvisorError(
            "engine-not-applied",
            f"the plan is for {plan.apply.engine.name}; only this project's own runtime is run from here",
            exit_code=ExitCode.MISSING,
            help=("make the plan again: advisor plan MODEL -o plan.yaml",),
        )
    model, folder = _model_of(plan, model_folder)
    request = request_of(plan)
    recipe = recipe_of(request, quick=quick)
    start = baseline(model, max_sequences=plan.apply.batching.max_num_seqs)
    return Ready(
        plan=plan,
        here=here,
        model=model,
        folder=folder,
        draft_folder=_draft_of(plan, model, folder),
        request=request,
        recipe=recipe,
        steps=predicted_steps(place_of(plan), start, techniques_of(plan), request, recipe),
    )


def apply_plan(
    plan: PlanFile, *, model_folder: Path | None, out: Path, on_event: OnEvent, cancel: threading.Event | None = None, quick: bool = False
) -> Run:
    """Measure the baseline and every technique of the plan, one more at a time.

    Raises `AdvisorError`: those of `ready` before any process starts, `disk-full` before anything is measured, and those of loading
    and running.
    """
    made = ready(plan, model_folder=model_folder, quick=quick)
    check_disk(out)
    save_plan(plan, out / PLAN_FILE)
    on_event(f"writing to {out}; with the same --out, a run that was stopped goes on")
    run = run_ladder(
        Ladder(
            plan_id=plan.id,
            title=plan.title,
            model=made.model.id,
            folder=made.folder,
            draft_folder=made.draft_folder,
            text_file=HELD_OUT,
            request=made.request,
            environment=environment_of(made.here, plan.machine.profile),
            recipe=made.recipe,
            steps=made.steps,
            max_sequences=plan.apply.batching.max_num_seqs,
            device="cuda" if detected_hardware(made.here).kind == "gpu" else "cpu",
        ),
        out,
        _named(on_event),
        cancel=cancel,
    )
    write_report(run, out / REPORT_FILE)
    return run


def _model_of(plan: PlanFile, given: Path | None) -> tuple[ModelSpec, Path]:
    """The plan's model by the plan's name and the folder with its weights, all checked; `given` stands in for the plan's folder."""
    found = find_model(str(given) if given is not None else plan.model.path or plan.model.name)
    check_model(plan, found)
    model = replace(found, id=plan.model.name)
    check_decision(plan, model)
    if model.folder is None:
        raise AdvisorError(
            "weights-not-found",
            f"{model.id} is known by its config only; its weights are needed",
            exit_code=ExitCode.MISSING,
            help=("give the folder that holds them: --model DIR",),
        )
    folder = Path(model.folder)
    weights_on_disk(folder)
    check_tokenizer(folder)
    return model, folder


def _draft_of(plan: PlanFile, model: ModelSpec, folder: Path) -> Path | None:
    """The folder of the draft model, checked: the one that the plan names, or the one that is known to go with its model."""
    decoding = deployment_of(plan, model).decoding
    if decoding.method != "draft":
        return None
    known = load_evidence().draft_for(plan.model.name)
    found = decoding.draft_folder or (find_model(known).folder if known else None)
    if found is None:
        raise AdvisorError(
            "draft-not-found",
            f"the weights of the draft model {known or 'of this plan'} are not on this machine",
            exit_code=ExitCode.MISSING,
            help=("name their folder as `apply.speculative.draft_folder` in the plan", "or plan again with --forbid decode-draft"),
        )
    check_draft(folder, Path(found))
    return Path(found)


def recipe_of(request: Request, *, quick: bool) -> Recipe:
    """How often and on what: a burst or a trace as it is, else three rounds of the requests in flight, twice; two once when quick."""
    workload = request.workload
    in_flight = workload.concurrency or 8
    rounds = max(in_flight * (QUICK_ROUNDS if quick else ROUNDS), 6)
    return Recipe(
        requests=len(workload.trace.requests) if workload.trace is not None else in_flight if workload.load is Load.BURST else rounds,
        warmup_requests=min(in_flight, 4),
        repeats=1 if quick else 2,
        seed=7,
        quality_text=HELD_OUT.name,
        quality_tokens=4096 if quick else 16384,
    )


def place_of(plan: PlanFile) -> Place:
    """The machine as the plan knew it: by its profile, or by its data sheet. Raises as `find_place` does."""
    return find_place(None, plan.machine.profile or "none", load_engine(plan.apply.engine.name), None)


def predicted_steps(
    place: Place, start: Deployment, techniques: tuple[Technique, ...], request: Request, recipe: Recipe
) -> tuple[Step, ...]:
    """The baseline and each technique added, with what is predicted for exactly the requests of the recipe."""
    planner = planner_for(start.model, place, load_engine(start.engine))
    lengths = [(request.workload.prompt_tokens, request.workload.output_tokens)] * recipe.requests

    def predicted(stack: Stack) -> Metrics:
        return planner.estimator.metrics(stack.deployment, request.workload, quality=planner.quality(stack, request), lengths=lengths)

    stack = Stack((), start)
    steps = [Step(None, predicted(stack))]
    for technique in techniques:
        stack = Stack((*stack.techniques, technique), technique.sketch(stack.deployment, request))
        steps.append(Step(Chosen(name=technique.name, options=options_of(technique)), predicted(stack)))
    return tuple(steps)


def environment_of(here: Detected, profile: str | None) -> Environment:
    """What the numbers are taken on, and the pace at which it was profiled. Raises what `load_profile` raises."""
    return Environment(
        fingerprint=fingerprint(here),
        device=detected_hardware(here).name,
        threads=here.host.cpu.usable_cores,
        python=platform.python_version(),
        packages=versions(PACKAGES),
        profiled_pace_s=load_profile(profile).pace_s if profile else None,
    )


def _named(on_event: OnEvent) -> Callable[[str, Event], None]:
    """Put the rung's name before its steps and before why it failed."""

    def say(rung: str, event: Event) -> None:
        match event:
            case Progress():
                event = event.model_copy(update={"step": f"{rung}: {event.step}"})
            case Failed():
                event = event.model_copy(update={"message": f"{rung}: {event.message}"})
        on_event(event)

    return say


def check_disk(out: Path) -> None:
    """Make the folder of a run. Raises `AdvisorError`: `not-writable`, or `disk-full` where a run would not find room."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise AdvisorError("not-writable", f"cannot write to {out}: {reason}", help=("choose another folder with --out DIR",)) from error
    free = shutil.disk_usage(out).free
    if free < DISK_BYTES:
        raise AdvisorError(
            "disk-full",
            f"{out} has {free / 2**20:.0f} MiB free, a run needs about {DISK_BYTES / 2**20:.0f}",
            help=("choose another folder with --out DIR",),
        )
