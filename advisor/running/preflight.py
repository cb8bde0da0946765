"""Checks before a plan is applied: machine, model, draft model, disk space; and the predictions for each rung."""

import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from advisor.backends.deployment import DecodeMethod, Deployment, baseline
from advisor.backends.detection.detect import Detected, detect
from advisor.backends.measure.ladder_rungs import LadderRung
from advisor.backends.measure.latency import request_lengths
from advisor.backends.model.load import check_draft, check_tokenizer
from advisor.backends.processes.child import check_installed
from advisor.backends.processes.folder_lock import check_unlocked
from advisor.backends.processes.jobs import Chosen
from advisor.backends.technique import Technique
from advisor.backends.techniques import options_of
from advisor.planfile.check import check_decision, check_machine, check_model
from advisor.planfile.deployment import deployment_of, techniques_of
from advisor.planfile.file import PlanFile, request_of
from advisor.planning.search import Stack
from advisor.planning.target import Target, planner_for, resolve_target
from advisor.profiles.architectures.spec import ModelSpec
from advisor.profiles.engines import load_engine
from advisor.profiles.errors import AdvisorError, ErrorAction, ExitCode
from advisor.profiles.evidence import load_evidence
from advisor.profiles.formats import GIB
from advisor.profiles.metrics import Metrics
from advisor.profiles.model_store import find_model
from advisor.profiles.request import Load, Request
from advisor.profiles.run import Recipe
from advisor.profiles.weight_files import weights_on_disk

HELDOUT_TEXT = Path(__file__).parents[1] / "backends" / "zoo" / "heldout.txt"
"""Source of the prompts and of the quality measurement; no shipped model was trained on it."""

REPORT_FILE, PLAN_FILE = "report.html", "plan.yaml"

ROUNDS = 2
"""Requests measured per repeat, as a multiple of the concurrency."""
REPEAT_S, MOST_ROUNDS = 4.0, 20
"""Seconds that a repeat of a baseline or a full stack alone takes at least, and the most rounds for it: short ones differ by chance."""
REPEATS, QUICK_REPEATS, PAIR_REPEATS = 3, 2, 5
"""Repeats of each rung of a ladder, of a quick run, and of a baseline and a full stack alone."""

DISK_BYTES = 256 * 2**20
"""Disk space that a run needs for the baseline's scores and the logs, roughly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRun:
    """A plan that was checked against this machine, with everything needed to run it."""

    plan: PlanFile
    detected: Detected
    model: ModelSpec
    model_folder: Path
    draft_folder: Path | None
    request: Request
    recipe: Recipe
    dtype: str | None
    """Type of activations of the baseline; `None` for the checkpoint's own."""
    rungs: tuple[LadderRung, ...]
    """The baseline, then one rung per technique, each with its predicted metrics."""


def prepare_run(plan: PlanFile, *, model_folder: Path | None = None, quick: bool = False, ladder: bool = True) -> PreparedRun:
    """Check that a plan can be run on this machine, and predict its rungs; nothing is started or written.

    Without `ladder` there are two rungs: the baseline and the full stack.

    Raises `AdvisorError`: `plan-stale` for another machine or model, `engine-not-applied` for an engine other than advisor's own,
    `weights-not-found` without a model folder, `weights-truncated`, `tokenizer-mismatch`, `draft-not-found` and the like.
    """
    check_installed()
    detected = detect()
    check_machine(plan, detected)
    if plan.apply.engine.name != "advisor":
        raise AdvisorError(
            "engine-not-applied",
            f"the plan is for {plan.apply.engine.name}; only plans for advisor's own runtime can be applied",
            exit_code=ExitCode.MISSING,
            help=("make the plan again: advisor plan MODEL -o plan.yaml",),
        )
    model, folder = _model_of(plan, model_folder)
    request = request_of(plan)
    recipe = recipe_of(request, quick=quick, ladder=ladder)
    target = target_of_plan(plan)
    dtypes = planner_for(model, target, load_engine(plan.apply.engine.name)).dtypes
    start = baseline(model, max_sequences=plan.apply.batching.max_num_seqs, dtypes=dtypes)
    rungs = predicted_rungs(target, start, techniques_of(plan), request, recipe)
    if not ladder:
        recipe = _long_enough(recipe, request, rungs)
        rungs = _without_steps(predicted_rungs(target, start, techniques_of(plan), request, recipe))
    recipe = recipe.model_copy(update={"interleaved": _fit_together(rungs, target)})
    return PreparedRun(
        plan=plan,
        detected=detected,
        model=model,
        model_folder=folder,
        draft_folder=_draft_of(plan, model, folder),
        request=request,
        recipe=recipe,
        dtype=start.weights.dtype,
        rungs=rungs,
    )


def _long_enough(recipe: Recipe, request: Request, rungs: tuple[LadderRung, ...]) -> Recipe:
    """The recipe with enough rounds that a repeat of the faster rung takes `REPEAT_S`; a burst and a trace have the requests they have."""
    workload = request.workload
    if workload.trace is not None or workload.load is Load.BURST:
        return recipe
    rates = [rung.predicted.throughput_tok_s.value for rung in (rungs[0], rungs[-1]) if rung.predicted.throughput_tok_s is not None]
    in_flight = workload.concurrency or 8
    rounds = math.ceil(REPEAT_S * max(rates, default=0.0) / (workload.output_tokens * in_flight))
    return recipe.model_copy(update={"requests": max(recipe.requests, in_flight * min(rounds, MOST_ROUNDS))})


def _without_steps(rungs: tuple[LadderRung, ...]) -> tuple[LadderRung, ...]:
    """The baseline and the full stack only."""
    added = tuple(technique for rung in rungs for technique in rung.techniques)
    return (rungs[0], LadderRung(added, rungs[-1].predicted)) if added else rungs


def _fit_together(rungs: tuple[LadderRung, ...], target: Target) -> bool:
    """Whether the baseline and the full stack fit in memory at once, so that their repeats can alternate."""
    peaks = [rung.predicted.peak_memory_gib for rung in (rungs[0], rungs[-1])]
    needed_gib = sum(peak.high for peak in peaks if peak is not None)
    return len(rungs) > 1 and needed_gib * GIB <= target.machine.working_memory_bytes


def _model_of(plan: PlanFile, given: Path | None) -> tuple[ModelSpec, Path]:
    """The plan's model under the plan's name, and its checked weights folder; `given` replaces the folder that the plan names."""
    local = find_model(str(given) if given is not None else plan.model.path or plan.model.name)
    check_model(plan, local)
    model = replace(local, id=plan.model.name)
    check_decision(plan, model)
    if model.folder is None:
        raise AdvisorError(
            "weights-not-found",
            f"only the config of {model.id} was found; its weights are needed",
            exit_code=ExitCode.MISSING,
            help=("give the folder with the weights: --model DIR",),
            field="model",
            action=ErrorAction.CHOOSE,
        )
    folder = Path(model.folder)
    weights_on_disk(folder)
    check_tokenizer(folder)
    return model, folder


def _draft_of(plan: PlanFile, model: ModelSpec, folder: Path) -> Path | None:
    """The checked folder of the draft model: the plan's, else the known draft for its model; `None` where the plan has no draft."""
    decoding = deployment_of(plan, model).decoding
    if decoding.method != DecodeMethod.DRAFT:
        return None
    draft_id = load_evidence().draft_for(plan.model.name)
    draft_folder = decoding.draft_folder or (find_model(draft_id).folder if draft_id else None)
    if draft_folder is None:
        raise AdvisorError(
            "draft-not-found",
            f"the weights of the draft model {draft_id or 'of this plan'} are not on this machine",
            exit_code=ExitCode.MISSING,
            help=("name their folder as `apply.speculative.draft_folder` in the plan", "or plan again with --forbid decode-draft"),
            field="forbid",
            action=ErrorAction.GIVE,
        )
    check_draft(folder, Path(draft_folder))
    return Path(draft_folder)


def recipe_of(request: Request, *, quick: bool, ladder: bool = True) -> Recipe:
    """How many requests, repeats and quality tokens a run measures: a burst or trace as given, else `ROUNDS` times the concurrency.

    `quick` takes fewer repeats and fewer tokens; without `ladder` the two rungs have more repeats.
    """
    workload = request.workload
    in_flight = workload.concurrency or 8
    rounds = max(in_flight * ROUNDS, 6)
    return Recipe(
        requests=len(workload.trace.requests) if workload.trace is not None else in_flight if workload.load is Load.BURST else rounds,
        warmup_requests=min(in_flight, 4),
        repeats=QUICK_REPEATS if quick else REPEATS if ladder else PAIR_REPEATS,
        seed=7,
        quality_text=HELDOUT_TEXT.name,
        quality_tokens=4096 if quick else 16384,
    )


def target_of_plan(plan: PlanFile) -> Target:
    """The machine that the plan was made for: its profile, or its data sheet. Raises as `resolve_target` does."""
    return resolve_target(
        None, plan.machine.profile or "none", load_engine(plan.apply.engine.name), None, power_limit_w=plan.machine.power_limit_w
    )


def predicted_rungs(
    target: Target, start: Deployment, techniques: tuple[Technique, ...], request: Request, recipe: Recipe
) -> tuple[LadderRung, ...]:
    """The rungs of `techniques` on top of the deployment `start`, predicted for exactly the requests of the recipe."""
    planner = planner_for(start.model, target, load_engine(start.engine))
    lengths = request_lengths(request.workload, recipe.requests)

    def predicted(stack: Stack) -> Metrics:
        return planner.estimator.metrics(stack.deployment, request.workload, quality=planner.quality(stack, request), lengths=lengths)

    stack = Stack((), start)
    rungs = [LadderRung((), predicted(stack))]
    for technique in techniques:
        stack = Stack((*stack.techniques, technique), technique.sketch(stack.deployment, request))
        rungs.append(LadderRung((Chosen(name=technique.name, options=options_of(technique)),), predicted(stack)))
    return tuple(rungs)


def check_disk(out: Path, *, needed_bytes: int = DISK_BYTES) -> None:
    """Create the folder of a run.

    Raises `AdvisorError`: `not-writable`, `run-busy` where a run is going on in it, or `disk-full` with less than `needed_bytes` free.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise AdvisorError(
            "not-writable",
            f"cannot write to {out}: {reason}",
            help=("choose another folder with --out DIR",),
            field="out",
            action=ErrorAction.CHOOSE,
        ) from error
    check_unlocked(out)
    free = shutil.disk_usage(out).free
    if free < needed_bytes:
        raise AdvisorError(
            "disk-full",
            f"{out} has {free / 2**20:.0f} MiB free, a run needs about {needed_bytes / 2**20:.0f}",
            help=("choose another folder with --out DIR",),
            field="out",
            action=ErrorAction.CHOOSE,
        )
