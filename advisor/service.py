"""The one door behind the command line and the session: questions in, frozen answers out. Prints nothing."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from advisor.backends.deployment import Deployment
from advisor.backends.processes.events import OnEvent
from advisor.estimate.estimator import Estimator
from advisor.planfile.file import PlanFile
from advisor.planning.advice import Advice
from advisor.planning.advise import advise
from advisor.planning.planner import Planner
from advisor.planning.question import EstimateQuestion, PlanQuestion, explicit_deployment, request_for, workload_of
from advisor.planning.target import check_is_this_machine, planner_for, resolve_target
from advisor.profiles.architectures.spec import ModelSpec
from advisor.profiles.engines import EngineProfile, load_engine
from advisor.profiles.errors import AdvisorError, ErrorAction, ExitCode
from advisor.profiles.formats import GIB
from advisor.profiles.machine import MachineProfile
from advisor.profiles.metrics import Metrics
from advisor.profiles.model_store import find_model
from advisor.profiles.request import Request, Workload
from advisor.profiles.run import Run
from advisor.quantities.formatting import quantity

if TYPE_CHECKING:  # loaded by the one question that needs it
    from advisor.backends.processes.jobs import Chosen
    from advisor.profiles.quality import QualityReport
    from advisor.validation.report import ValidationReport


def plan(question: PlanQuestion, on_event: OnEvent | None = None, *, choose: str | None = None) -> Advice:
    """Find the best stack. Raises `AdvisorError` for what cannot be resolved; a request that nothing meets is an answer.

    `choose` is the id of another plan of the landscape, which then leads: as it is kept there, or as plan files call it.
    """
    planner, request = PlannerCache().prepare(question, on_event)
    advice = advise(planner, request)
    return advice if choose is None else _chosen(planner, advice, choose, question.profile)


def _chosen(planner: Planner, advice: Advice, choose: str, profile: str) -> Advice:
    # Deferred: most plans are the best one.
    from advisor.planfile.from_advice import plan_ids
    from advisor.planning.alternatives import advice_for, alternatives

    spots = {spot.id: spot.candidate for spot in alternatives(planner, advice)}
    file = Path(profile) if Path(profile).is_file() else None
    named = plan_ids(advice, list(spots.values()), profile_file=file)
    spots |= dict(zip(named, spots.values(), strict=True))
    if choose not in spots:
        shown = ", ".join(named[: len(advice.ranked)])
        raise AdvisorError(
            "no-such-plan",
            f"none of the plans for this question is called {choose}",
            exit_code=ExitCode.USAGE,
            help=(f"--choose with one of the frontier: {shown}", "an id belongs to one question: give the same model, machine and limits"),
            field="choose",
            action=ErrorAction.CHOOSE,
        )
    return advice_for(planner, advice, spots[choose])


class PlannerCache:
    """Planners that are kept between questions, with all that they have priced."""

    def __init__(self) -> None:
        self._kept: dict[tuple[object, ...], Planner] = {}

    def prepare(self, question: PlanQuestion, on_event: OnEvent | None = None) -> tuple[Planner, Request]:
        """The planner that answers a question, and the request to put to it. Raises `AdvisorError` for what cannot be resolved."""
        model = find_model(question.model, offline=question.offline)
        request = request_for(question, model)
        key = (model, question.hardware, question.profile, question.engine)
        if key not in self._kept:
            engine = load_engine(question.engine)
            target = resolve_target(question.hardware, _profile_for(question, on_event), engine, on_event)
            self._kept[key] = planner_for(model, target, engine)
        return self._kept[key], request

    def clear(self) -> None:
        """Let all of them go, as after this machine was measured."""
        self._kept.clear()


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one explicit stack is predicted to do."""

    metrics: Metrics
    extrapolation_warning: str | None
    """Why the setting is unlike all that was compared with measurements: its ranges are wider."""
    warnings: tuple[str, ...] = ()
    """What makes the numbers hypothetical, a sentence each."""


def estimate(question: EstimateQuestion, on_event: OnEvent | None = None) -> Estimate:
    """Price one explicit stack: no search. What makes the numbers hypothetical, such as too little memory, is said as a note."""
    model = find_model(question.model)
    engine = load_engine(question.engine)
    target = resolve_target(question.hardware, _profile_for(question, on_event), engine, on_event)
    workload = workload_of(
        question.prompt_tokens or 1,
        question.output_tokens or 1,
        concurrency=question.concurrency,
        request_rate_per_s=question.request_rate_per_s,
        burst=question.burst,
        trace=question.trace,
        offline=question.offline_load,
        shared_prefix_tokens=question.shared_prefix_tokens,
    )
    deployment = explicit_deployment(model, engine, question, workload)
    estimator = Estimator(target.machine, engine)
    served = estimator.simulate(deployment, workload)
    metrics = estimator.metrics_of(deployment, workload, served)
    metrics = metrics.model_copy(update={"goodput_per_s": estimator.goodput(deployment, workload, served, question.all_limits)})
    doubts = (*_unsupported(engine, deployment), *_warnings(model, workload, metrics, estimator.budget_bytes))
    for doubt in doubts:
        if on_event is not None:
            on_event(f"note: {doubt}")
    return Estimate(metrics, estimator.domain(deployment, workload), doubts)


def apply(
    plan: PlanFile, *, model_folder: Path | None, out: Path, on_event: OnEvent, cancel: threading.Event | None = None, quick: bool = False
) -> Run:
    """Run baseline and ladder for real, write `run.json` and `report.html` into `out`."""
    # Deferred: planning needs none of it.
    from advisor.rendering.html.run_page import write_report
    from advisor.running.apply import apply_plan
    from advisor.running.preflight import REPORT_FILE

    run = apply_plan(plan, model_folder=model_folder, out=out, on_event=on_event, cancel=cancel, quick=quick)
    write_report(run, out / REPORT_FILE)
    return run


def validate(cases: Path, rows: Path | None, on_event: OnEvent | None = None, *, html: Path | None = None) -> "ValidationReport":
    """Predict every row of a table of published measurements and report the errors.

    `rows` gets one line per row of the table, `html` a page. Raises `AdvisorError`: `bad-cases` for a file that is no table of cases,
    `not-writable` for `rows` and `html`, before anything is predicted where it can be told.
    """
    # Deferred: planning needs none of it.
    from advisor.profiles.files import check_writable
    from advisor.validation.cases import read_cases
    from advisor.validation.predict import compare_all, write_rows
    from advisor.validation.report import report_of

    known = read_cases(cases)
    for path in (rows, html):
        if path is not None:
            check_writable(path)
    compared = compare_all(known, on_event)
    report = report_of(str(cases), compared)
    if rows is not None:
        write_rows(rows, compared)
    if html is not None:
        from advisor.rendering.html.validation_page import write_page  # needed for the page alone

        write_page(report, compared, html)
    return report


def measure_profile(
    name: str | None, on_event: OnEvent | None = None, *, budget_s: float | None = None, cancel: threading.Event | None = None
) -> MachineProfile:
    """Measure this machine in a child process and store what was found."""
    # Deferred: planning needs none of it.
    from advisor.running.profile import profile_this_machine

    return profile_this_machine(name, on_event, budget_s=budget_s, cancel=cancel)


def measure_quality(
    model: str, techniques: "Sequence[Chosen]", on_event: OnEvent | None = None, *, text: Path | None = None, tokens: int = 4096
) -> "QualityReport":
    """Measure what techniques of attention and cache cost on a model of this machine, each by itself, in a child process."""
    # Deferred: planning needs none of it.
    from advisor.running.quality import measure_techniques

    return measure_techniques(model, techniques, on_event, text=text, tokens=tokens)


def _profile_for(question: PlanQuestion | EstimateQuestion, on_event: OnEvent | None) -> str | MachineProfile:
    """The profile to plan with; for `now`, this machine is measured first."""
    if question.profile != "now":
        return question.profile
    check_is_this_machine(question.hardware)
    return measure_profile(None, on_event)


def _warnings(model: ModelSpec, workload: Workload, metrics: Metrics, budget_bytes: float) -> Iterator[str]:
    """What speaks against running the stack that was priced."""
    if workload.longest_tokens > model.max_context_tokens:
        yield f"{model.id} was made for {model.max_context_tokens} tokens, {workload.longest_tokens} are asked for"
    fitting, needed = metrics.max_concurrency, metrics.peak_memory_gib
    if fitting is not None and needed is not None and fitting.value < 1:
        yield (
            f"not even one request fits: {quantity(needed.value, 'GiB')} are needed on each device, "
            f"{quantity(budget_bytes / GIB, 'GiB')} are there for use; the times are as if they were"
        )
    asked, lasting = workload.request_rate_per_s, metrics.request_rate_per_s
    if asked is not None and lasting is not None and lasting.value < asked:
        yield (
            f"requests come faster than the {quantity(lasting.value, 'req/s')} that are served: the queue grows as long as they come, "
            "and waiting with it"
        )


def _unsupported(engine: EngineProfile, deployment: Deployment) -> Iterator[str]:
    """What the engine does not run."""
    told = f"{engine.name} {engine.versions}" if engine.versions != "any" else engine.name
    if not engine.runs(deployment.weights.format):
        yield f"{told} is not known to run {deployment.weights.format} weights; the numbers are as if it did"
    if deployment.kv.format not in (*engine.kv_formats, "fp16"):  # every engine has a cache of 16 bits
        yield f"{told} is not known to keep a cache in {deployment.kv.format}; the numbers are as if it did"
