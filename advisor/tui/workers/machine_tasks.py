"""Tasks on this machine: measure it, apply plans, read finished runs, refit profiles. Imports no Textual."""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from advisor.profiles.errors import AdvisorError, ExitCode
from advisor.running.folders import new_run_folder, runs_folder
from advisor.tui.workers.job import Task
from advisor.tui.workers.job_progress import Stage, StageStatus

if TYPE_CHECKING:  # loaded by the first thing that is done
    from advisor.backends.processes.events import OnEvent
    from advisor.feedback.next_plans import NextPlans
    from advisor.feedback.refit import RefitResult
    from advisor.planfile.file import PlanFile
    from advisor.profiles.run import Run
    from advisor.running.review import Review

MOST_RUNS = 50
WAIT_STEP = "wait until the machine is idle"
_POLL_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PastRun:
    """A run stored on this machine."""

    folder: Path
    plan_id: str
    title: str
    created: str
    done: int
    """Rungs that are finished."""
    rungs: int


class MachineTasks:
    """The calls that the commands `profile`, `apply` and `profile refit` make."""

    def other_load(self) -> str | None:
        """Other load on this machine, in words; `None` where there is none. Samples for a moment."""
        from advisor.backends.detection.contention import processors_busy
        from advisor.backends.detection.detect import detect

        machine = detect()
        for gpu in machine.gpus[:1]:
            if gpu.busy:
                pids = f" (pid {', '.join(map(str, gpu.busy_pids))})" if gpu.busy_pids else ""
                return f"GPU {gpu.index} is {gpu.utilisation_pct or 0} % busy{pids}"
        if not machine.gpus and processors_busy(machine.host.cpu.usable_cores):
            return "other processes keep the processors of this machine busy"
        return None

    def profile(self, *, wait: bool = False) -> Task:
        """Measure this machine under its own name; with `wait`, once there is no other load."""
        from advisor.backends.processes.jobs import PROFILE_STEPS
        from advisor.service import measure_profile

        def do(on_event: "OnEvent", cancel: threading.Event) -> object:
            if wait:
                self._wait(on_event, cancel)
            return measure_profile(None, on_event, cancel=cancel)

        names = (WAIT_STEP, *PROFILE_STEPS) if wait else PROFILE_STEPS
        return Task(verb="profile", title="Profile this machine", stages=tuple(Stage(name=name) for name in names), do=do)

    def _wait(self, on_event: "OnEvent", cancel: threading.Event) -> None:
        """Wait until there is no other load. Raises `AdvisorError` `cancelled` where `cancel` is set meanwhile."""
        from advisor.backends.processes.events import Progress

        while (load := self.other_load()) is not None:
            on_event(Progress(step=WAIT_STEP, done=0, total=1))
            on_event(load)
            if cancel.wait(_POLL_S):
                raise AdvisorError("cancelled", "cancelled before anything was measured", exit_code=ExitCode.INTERRUPTED)
        on_event(Progress(step=WAIT_STEP, done=1, total=1))

    def review(self, plan: "PlanFile") -> "Review":
        """What applying would do; an unfinished run of the plan is resumed. Raises `AdvisorError` where it cannot be applied here."""
        from advisor.running.review import can_resume, review

        earlier = self.unfinished(plan.id)
        if earlier is not None and can_resume(reviewed := review(plan, earlier.folder)):
            return reviewed
        return review(plan, new_run_folder(plan.id))

    def apply(self, review: "Review") -> Task:
        """Apply a reviewed plan."""
        from advisor.backends.processes.jobs import rung_steps
        from advisor.service import apply

        prepared = review.prepared

        def do(on_event: "OnEvent", cancel: threading.Event) -> object:
            return apply(prepared.plan, model_folder=None, out=review.out, on_event=on_event, cancel=cancel)

        title = f"Apply {prepared.plan.id}: {prepared.plan.title}"
        stages = tuple(
            Stage(
                name=step.name,
                options=", ".join(filter(None, (technique.options_line for technique in step.techniques))),
                status=StageStatus.REUSED if step.name in review.finished else StageStatus.WAITING,
            )
            for step in prepared.rungs
        )
        return Task(verb="apply", title=title, stages=stages, steps=rung_steps(prepared.recipe), do=do, folder=review.out)

    def runs(self) -> tuple[PastRun, ...]:
        """The runs on this machine, the latest first; folders without a readable run are skipped."""
        folders = sorted((file.parent for file in runs_folder().glob("*/run.json")), reverse=True)[:MOST_RUNS]
        return tuple(run for folder in folders if (run := _past(folder)) is not None)

    def run_of(self, plan_id: str) -> Path | None:
        """Folder of the latest run of a plan with a finished rung."""
        return next((run.folder for run in self.runs() if run.plan_id == plan_id and run.done), None)

    def open(self, folder: Path) -> "Run":
        """The run in a folder. Raises `AdvisorError` as `read_run` does."""
        from advisor.profiles.run import read_run

        return read_run(folder)

    def refit(self, folder: Path) -> "RefitResult":
        """The profile of a run's plan, refitted from the run; stores nothing. Raises as `refit_profile` does."""
        from advisor.feedback.refit import refit_profile

        return refit_profile(folder)

    def next_plans(self, folder: Path) -> "tuple[NextPlans, tuple[str, ...]]":
        """Plans to try after a run, and the words of `advisor plan` that lead to them. Raises as `next_plans` does."""
        from advisor.feedback.next_plans import next_plans
        from advisor.planfile.yaml import plain_number
        from advisor.running.preflight import PLAN_FILE
        from advisor.tui.form.fields import OF_LIMIT
        from advisor.tui.form.from_plan import values_of_file

        following, values = next_plans(folder), values_of_file(folder / PLAN_FILE)
        if not values.text("hardware") and not values.text("profile"):
            values = values.with_text("profile", "none")
        for limit, bound in following.tightened:
            values = values.with_text(OF_LIMIT[limit], plain_number(bound))
        return following, values.words()

    def store(self, result: "RefitResult") -> Path:
        """Store a refitted profile. Raises as `save_profile` does."""
        from advisor.profiles.store import save_profile

        return save_profile(result.profile)

    def unfinished(self, plan_id: str) -> PastRun | None:
        """The latest run of a plan, if it has unfinished rungs and no other process is running it."""
        from advisor.backends.processes.folder_lock import owner_of

        latest = next((run for run in self.runs() if run.plan_id == plan_id), None)
        return latest if latest is not None and latest.done < latest.rungs and owner_of(latest.folder) is None else None


def _past(folder: Path) -> PastRun | None:
    from advisor.profiles.run import RungStatus, read_run

    try:
        run = read_run(folder)
    except AdvisorError:
        return None
    done = sum(rung.status is RungStatus.DONE for rung in run.rungs)
    return PastRun(folder=folder, plan_id=run.plan_id, title=run.title, created=run.created, done=done, rungs=len(run.rungs))
