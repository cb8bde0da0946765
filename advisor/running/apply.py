"""Applies a plan for real: predicts each rung of the ladder, measures it in a fresh process, writes the run and its report."""

import platform
import threading
from collections.abc import Callable
from pathlib import Path

from advisor.backends.detection.detect import Detected, detected_hardware, fingerprint
from advisor.backends.detection.packages import versions
from advisor.backends.measure.ladder import Ladder, run_ladder
from advisor.backends.processes.events import Event, Failed, OnEvent, Progress
from advisor.planfile.file import PlanFile
from advisor.planfile.store import save_plan
from advisor.profiles.run import Environment, Run
from advisor.profiles.store import load_profile
from advisor.running.preflight import HELDOUT_TEXT, PLAN_FILE, check_disk, prepare_run

PACKAGES = ("torch", "transformers", "triton", "numpy")


def apply_plan(
    plan: PlanFile, *, model_folder: Path | None, out: Path, on_event: OnEvent, cancel: threading.Event | None = None, quick: bool = False
) -> Run:
    """Measure the baseline and every technique of the plan, one more at a time.

    Raises `AdvisorError`: those of `ready` before any process starts, `disk-full` before anything is measured, and those of loading
    and running.
    """
    made = prepare_run(plan, model_folder=model_folder, quick=quick)
    check_disk(out)
    save_plan(plan, out / PLAN_FILE)
    on_event(f"writing to {out}; with the same --out, a run that was stopped goes on")
    return run_ladder(
        Ladder(
            plan_id=plan.id,
            title=plan.title,
            model=made.model.id,
            folder=made.model_folder,
            draft_folder=made.draft_folder,
            text_file=HELDOUT_TEXT,
            request=made.request,
            environment=environment_of(made.detected, plan.machine.profile),
            recipe=made.recipe,
            steps=made.rungs,
            max_sequences=plan.apply.batching.max_num_seqs,
            device="cuda" if detected_hardware(made.detected).kind == "gpu" else "cpu",
        ),
        out,
        _prefix_with_rung(on_event),
        cancel=cancel,
    )


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


def _prefix_with_rung(on_event: OnEvent) -> Callable[[str, Event], None]:
    """Put the rung's name before its steps and before why it failed."""

    def say(rung: str, event: Event) -> None:
        match event:
            case Progress():
                event = event.model_copy(update={"step": f"{rung}: {event.step}"})
            case Failed():
                event = event.model_copy(update={"message": f"{rung}: {event.message}"})
        on_event(event)

    return say
