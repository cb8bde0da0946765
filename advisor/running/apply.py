"""Applies a plan: predicts each rung of the ladder, measures it in a fresh process, and writes the plan and `run.json`."""

import platform
import threading
from collections.abc import Callable
from functools import partial
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
    """Measure the baseline and then the plan's techniques, added one at a time, and write the run into `out`.

    A run of the same plan that was stopped in `out` is resumed. Raises `AdvisorError`: those of `prepare_run` before any process starts,
    `disk-full`, `not-writable` and `run-busy` before anything is measured, then those of loading and running.
    """
    prepared = prepare_run(plan, model_folder=model_folder, quick=quick)
    check_disk(out)
    on_event(f"writing to {out}; a run that was stopped is resumed with the same --out")
    return run_ladder(
        Ladder(
            plan_id=plan.id,
            title=plan.title,
            model=prepared.model.id,
            folder=prepared.model_folder,
            draft_folder=prepared.draft_folder,
            text_file=HELDOUT_TEXT,
            request=prepared.request,
            environment=environment_of(prepared.detected, plan.machine.profile),
            recipe=prepared.recipe,
            steps=prepared.rungs,
            max_sequences=plan.apply.batching.max_num_seqs,
            dtype=prepared.dtype,
            device="cuda" if detected_hardware(prepared.detected).kind == "gpu" else "cpu",
        ),
        out,
        prefix_with_rung(on_event),
        cancel=cancel,
        on_start=partial(save_plan, plan, out / PLAN_FILE),
    )


def environment_of(detected: Detected, profile: str | None) -> Environment:
    """The machine and the packages that a run is measured with; `profile` names the stored profile whose processor speed is recorded.

    Raises as `load_profile` does.
    """
    return Environment(
        fingerprint=fingerprint(detected),
        device=detected_hardware(detected).name,
        threads=detected.host.cpu.usable_cores,
        python=platform.python_version(),
        packages=versions(PACKAGES),
        profiled_pace_s=load_profile(profile).pace_s if profile else None,
    )


def prefix_with_rung(on_event: OnEvent) -> Callable[[str, Event], None]:
    """Pass events on with the rung's name in front of its steps and failures."""

    def forward(rung: str, event: Event) -> None:
        match event:
            case Progress():
                event = event.model_copy(update={"step": f"{rung}: {event.step}"})
            case Failed():
                event = event.model_copy(update={"message": f"{rung}: {event.message}"})
        on_event(event)

    return forward
