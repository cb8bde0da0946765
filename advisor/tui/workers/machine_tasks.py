"""What the session does to this machine: measures it, applies plans, opens finished runs, teaches profiles. Knows no screen."""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from advisor.profiles.errors import AdvisorError, ExitCode
from advisor.running.folders import new_run_folder, runs_folder
from advisor.tui.workers.job import Task
from advisor.tui.workers.job_progress import Stage, Standing

if TYPE_CHECKING:  # loaded by the first thing that is done
    from advisor.backends.processes.events import OnEvent
    from advisor.feedback.next_plans import NextPlans
    from advisor.feedback.refit import RefitResult
    from advisor.planfile.file import PlanFile
    from advisor.profiles.run import Run
    from advisor.running.review import Review

MOST_RUNS = 50
QUIET = "wait until the machine is quiet"
_LOOK_AGAIN_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PastRun:
    """A run that lies on this machine."""

    folder: Path
    plan_id: str
    title: str
    created: str
    done: int
    rungs: int


class MachineTasks:
    """The doors to the service, each as the command line opens it."""

    def busy(self) -> str | None:
        """Who else keeps this machine busy, in words; `None` while it is quiet. Watches for a moment."""
        from advisor.backends.detection.contention import processors_busy
        from advisor.backends.detection.detect import detect

        here = detect()
        for gpu in here.gpus[:1]:
            if gpu.busy:
                pids = f" (pid {', '.join(map(str, gpu.busy_pids))})" if gpu.busy_pids else ""
                return f"GPU {gpu.index} is {gpu.utilisation_pct or 0} % busy{pids}"
        if not here.gpus and processors_busy(here.host.cpu.usable_cores):
            return "other processes keep the processors of this machine busy"
        return None

    def profile(self, *, wait: bool = False) -> Task:
        """Measure this machine under its own name; `wait` until others leave it alone."""
        from advisor.backends.processes.jobs import PROFILE_STEPS
        from advisor.service import measure_profile

        def do(on_event: "OnEvent", cancel: threading.Event) -> object:
            if wait:
                self._wait(on_event, cancel)
            return measure_profile(None, on_event, cancel=cancel)

        names = (QUIET, *PROFILE_STEPS) if wait else PROFILE_STEPS
        return Task(verb="profile", title="Profile this machine", stages=tuple(Stage(name=name) for name in names), do=do)

    def _wait(self, on_event: "OnEvent", cancel: threading.Event) -> None:
        """Until nobody else uses the machine. Raises `AdvisorError` `cancelled` where `cancel` was set meanwhile."""
        from advisor.backends.processes.events import Progress

        while (told := self.busy()) is not None:
            on_event(Progress(step=QUIET, done=0, total=1))
            on_event(told)
            if cancel.wait(_LOOK_AGAIN_S):
                raise AdvisorError("cancelled", "cancelled before anything was measured", exit_code=ExitCode.INTERRUPTED)
        on_event(Progress(step=QUIET, done=1, total=1))

    def review(self, plan: "PlanFile") -> "Review":
        """What applying would do; it goes on with an unfinished run of the plan. Raises `AdvisorError` where it cannot be applied here."""
        from advisor.running.review import can_resume, review

        earlier = self.unfinished(plan.id)
        if earlier is not None and can_resume(reviewed := review(plan, earlier.folder)):
            return reviewed
        return review(plan, new_run_folder(plan.id))

    def apply(self, review: "Review") -> Task:
        """Apply what was reviewed."""
        from advisor.backends.processes.jobs import rung_steps
        from advisor.service import apply

        made = review.prepared

        def do(on_event: "OnEvent", cancel: threading.Event) -> object:
            return apply(made.plan, model_folder=None, out=review.out, on_event=on_event, cancel=cancel)

        title = f"Apply {made.plan.id}: {made.plan.title}"
        stages = tuple(
            Stage(
                name=step.name,
                options=step.technique.options_line if step.technique else "",
                standing=Standing.KEPT if step.name in review.finished else Standing.WAITING,
            )
            for step in made.rungs
        )
        return Task(verb="apply", title=title, stages=stages, steps=rung_steps(made.recipe), do=do, folder=review.out)

    def runs(self) -> tuple[PastRun, ...]:
        """The runs on this machine, the latest first; folders that hold none are passed over."""
        folders = sorted((file.parent for file in runs_folder().glob("*/run.json")), reverse=True)[:MOST_RUNS]
        return tuple(run for folder in folders if (run := _past(folder)) is not None)

    def run_of(self, plan_id: str) -> Path | None:
        """Folder of the latest run of a plan that measured anything."""
        return next((run.folder for run in self.runs() if run.plan_id == plan_id and run.done), None)

    def open(self, folder: Path) -> "Run":
        """A run as it stands. Raises `AdvisorError` as `read_run` does."""
        from advisor.profiles.run import read_run

        return read_run(folder)

    def taught(self, folder: Path) -> "RefitResult":
        """What a run would teach the profile that its plan was made with; stores nothing. Raises as `refit_from` does."""
        from advisor.feedback.refit import refit_profile

        return refit_profile(folder)

    def next_plans(self, folder: Path) -> "tuple[NextPlans, tuple[str, ...]]":
        """Plans to try after a run, and the words of `advisor plan` that lead to them. Raises as `next_plans` does."""
        from advisor.feedback.next_plans import next_plans
        from advisor.planfile.yaml import plain_number
        from advisor.running.preflight import PLAN_FILE
        from advisor.tui.form.fields import OF_LIMIT
        from advisor.tui.form.from_plan import asked_of_file

        following, asked = next_plans(folder), asked_of_file(folder / PLAN_FILE)
        if not asked.text("hardware") and not asked.text("profile"):
            asked = asked.with_text("profile", "none")
        for limit, bound in following.tightened:
            asked = asked.with_text(OF_LIMIT[limit], plain_number(bound))
        return following, asked.words()

    def keep(self, taught: "RefitResult") -> Path:
        """Store what was taught. Raises as `save_profile` does."""
        from advisor.profiles.store import save_profile

        return save_profile(taught.profile)

    def unfinished(self, plan_id: str) -> PastRun | None:
        """The latest run of a plan, if it was stopped before its end."""
        latest = next((run for run in self.runs() if run.plan_id == plan_id), None)
        return latest if latest is not None and latest.done < latest.rungs else None


def _past(folder: Path) -> PastRun | None:
    from advisor.profiles.run import RungStatus, read_run

    try:
        run = read_run(folder)
    except AdvisorError:
        return None
    done = sum(rung.status is RungStatus.DONE for rung in run.rungs)
    return PastRun(folder=folder, plan_id=run.plan_id, title=run.title, created=run.created, done=done, rungs=len(run.rungs))
