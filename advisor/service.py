"""The operations of the command line and the terminal interface: plan, estimate, apply, validate, profile, quality.

Each takes a question and returns a frozen value. They call the packages below and write files; they print nothing.
"""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from advisor.backends.processes.events import OnEvent
from advisor.planfile.file import PlanFile
from advisor.planning.advice import Advice
from advisor.planning.advise import advise
from advisor.planning.explicit import Estimate, estimate_explicit
from advisor.planning.planner import Planner
from advisor.planning.question import EstimateQuestion, PlanQuestion, request_for
from advisor.planning.target import Target, check_is_this_machine, planner_for, resolve_target
from advisor.profiles.engines import EngineProfile, load_engine
from advisor.profiles.errors import AdvisorError, ErrorAction, ExitCode
from advisor.profiles.files import is_file
from advisor.profiles.machine import MachineProfile
from advisor.profiles.model_store import find_model
from advisor.profiles.request import Request
from advisor.profiles.run import Run

if TYPE_CHECKING:  # loaded by the one question that needs it
    from advisor.backends.processes.jobs import Chosen
    from advisor.profiles.quality import QualityReport
    from advisor.validation.report import ValidationReport


def plan(question: PlanQuestion, on_event: OnEvent | None = None, *, choose: str | None = None) -> Advice:
    """Find the best stack of techniques; where no stack meets the limits, the advice has the nearest one.

    `choose` is the id of another plan of the same question, which then becomes the chosen one. Raises `AdvisorError`: `no-such-plan` for
    an unknown id, and those of resolving the model, the hardware, the profile and the engine.
    """
    planner, request = PlannerCache().prepare(question, on_event)
    advice = advise(planner, request)
    return advice if choose is None else _chosen(planner, advice, choose, question.profile)


def _chosen(planner: Planner, advice: Advice, choose: str, profile: str) -> Advice:
    # Imported here because few calls choose a plan, and they need the plan file.
    from advisor.planfile.from_advice import plan_ids
    from advisor.planning.alternatives import advice_for, alternatives

    candidates = {alternative.id: alternative.candidate for alternative in alternatives(planner, advice)}
    file = Path(profile) if is_file(Path(profile)) else None
    ids = plan_ids(advice, list(candidates.values()), profile_file=file)
    candidates |= dict(zip(ids, candidates.values(), strict=True))
    if choose not in candidates:
        frontier = ", ".join(ids[: len(advice.ranked)])
        raise AdvisorError(
            "no-such-plan",
            f"none of the plans for this question is called {choose}",
            exit_code=ExitCode.USAGE,
            help=(
                f"--choose with an id of the frontier: {frontier}",
                "an id belongs to one question: give the same model, machine and limits",
            ),
            field="choose",
            action=ErrorAction.CHOOSE,
        )
    return advice_for(planner, advice, candidates[choose])


class PlannerCache:
    """Planners by model, hardware, profile and engine, so that a later question reuses what an earlier one has priced."""

    def __init__(self) -> None:
        self._planners: dict[tuple[object, ...], Planner] = {}

    def prepare(self, question: PlanQuestion, on_event: OnEvent | None = None) -> tuple[Planner, Request]:
        """The planner for a question, and the request to give it. Raises `AdvisorError` where model, hardware or profile is unknown."""
        model = find_model(question.model, offline=question.offline)
        request = request_for(question, model)
        key = (model, question.hardware, question.power_limit_w, question.profile, question.engine)
        if key not in self._planners:
            engine = load_engine(question.engine)
            target = _target(question, engine, on_event)
            self._planners[key] = planner_for(model, target, engine)
        return self._planners[key], request

    def clear(self) -> None:
        """Discard every planner, as after this machine was measured again."""
        self._planners.clear()


def estimate(question: EstimateQuestion, on_event: OnEvent | None = None) -> Estimate:
    """Predict the metrics of one explicit deployment, without a search; warnings also go to `on_event` as notes."""
    model, engine = find_model(question.model), load_engine(question.engine)
    target = _target(question, engine, on_event)
    answer = estimate_explicit(question, model, engine, target)
    for warning in answer.warnings:
        if on_event is not None:
            on_event(f"note: {warning}")
    return answer


def apply(
    plan: PlanFile,
    *,
    model_folder: Path | None,
    out: Path,
    on_event: OnEvent,
    cancel: threading.Event | None = None,
    quick: bool = False,
    ladder: bool = True,
) -> Run:
    """Measure the baseline and each technique of a plan, and write `run.json` and `report.html` into `out`.

    Without `ladder`, the baseline and the full stack only. Raises as `apply_plan` does.
    """
    # Imported here because planning does not need it.
    from advisor.rendering.html.run_page import write_report
    from advisor.running.apply import apply_plan
    from advisor.running.preflight import REPORT_FILE

    run = apply_plan(plan, model_folder=model_folder, out=out, on_event=on_event, cancel=cancel, quick=quick, ladder=ladder)
    write_report(run, out / REPORT_FILE)
    return run


def validate(cases: Path, rows: Path | None, on_event: OnEvent | None = None, *, html: Path | None = None) -> "ValidationReport":
    """Predict every row of a table of published measurements and report the errors.

    `rows` is a CSV file to write, one line per row of the table; `html` is a page to write. Raises `AdvisorError`: `bad-cases` for a file
    that is not a table of cases, `not-writable` for `rows` and `html`, if possible before anything is predicted.
    """
    # Imported here because planning does not need it.
    from advisor.profiles.files import check_writable
    from advisor.validation.cases import read_cases
    from advisor.validation.predict import compare_cases, write_rows
    from advisor.validation.report import report_of

    published = read_cases(cases)
    for path in (rows, html):
        if path is not None:
            check_writable(path)
    compared = compare_cases(published, on_event)
    report = report_of(str(cases), compared)
    if rows is not None:
        write_rows(rows, compared)
    if html is not None:
        from advisor.rendering.html.validation_page import write_page  # only needed with `html`

        write_page(report, compared, html)
    return report


def measure_profile(
    name: str | None, on_event: OnEvent | None = None, *, budget_s: float | None = None, cancel: threading.Event | None = None
) -> MachineProfile:
    """Measure this machine in a child process within `budget_s` seconds and store the profile. Raises as `profile_this_machine` does."""
    # Imported here because planning does not need it.
    from advisor.running.profile import profile_this_machine

    return profile_this_machine(name, on_event, budget_s=budget_s, cancel=cancel)


def measure_quality(
    model: str, techniques: "Sequence[Chosen]", on_event: OnEvent | None = None, *, text: Path | None = None, tokens: int = 4096
) -> "QualityReport":
    """Measure the quality loss of attention and cache techniques on a local model, each alone, in a child process.

    Raises as `measure_techniques` does.
    """
    # Imported here because planning does not need it.
    from advisor.running.quality import measure_techniques

    return measure_techniques(model, techniques, on_event, text=text, tokens=tokens)


def _target(question: PlanQuestion | EstimateQuestion, engine: EngineProfile, on_event: OnEvent | None) -> Target:
    profile = _profile_for(question, on_event)
    return resolve_target(question.hardware, profile, engine, on_event, power_limit_w=question.power_limit_w)


def _profile_for(question: PlanQuestion | EstimateQuestion, on_event: OnEvent | None) -> str | MachineProfile:
    """The profile to plan with; for `now`, this machine is measured first."""
    if question.profile != "now":
        return question.profile
    check_is_this_machine(question.hardware)
    return measure_profile(None, on_event)
