"""Applies a plan: predicts each rung of the ladder, measures it in a fresh process, and writes the plan and `run.json`."""

import platform
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from advisor.backends.detection.contention import BUSY_SHARE, busy_share
from advisor.backends.detection.detect import Detected, detected_hardware, fingerprint
from advisor.backends.detection.packages import versions
from advisor.backends.measure.ladder import run_ladder
from advisor.backends.measure.ladder_rungs import Ladder, LadderRung
from advisor.backends.processes.events import Event, Failed, OnEvent, Progress
from advisor.planfile.file import PlanFile
from advisor.planfile.store import save_plan
from advisor.profiles.metrics import Value
from advisor.profiles.run import Environment, Run
from advisor.profiles.store import load_profile
from advisor.quantities.metrics import METRICS, TIMED
from advisor.running.preflight import HELDOUT_TEXT, PLAN_FILE, PreparedRun, check_disk, prepare_run

LOAD_WATCH_S = 1.0
"""Seconds for which the load of the processors is watched before a run."""
LEAST_FREE_SHARE = 0.1
"""Share of the processors that a run is taken to get, however busy they are."""
PACKAGES = ("torch", "transformers", "triton", "numpy")


def apply_plan(
    plan: PlanFile,
    *,
    model_folder: Path | None,
    out: Path,
    on_event: OnEvent,
    cancel: threading.Event | None = None,
    quick: bool = False,
    ladder: bool = True,
) -> Run:
    """Measure the baseline and then the plan's techniques, added one at a time, and write the run into `out`.

    Without `ladder`, the baseline and the full stack only. Their repeats alternate where both fit in memory.

    A run of the same plan that was stopped in `out` is resumed. Raises `AdvisorError`: those of `prepare_run` before any process starts,
    `disk-full`, `not-writable` and `run-busy` before anything is measured, then those of loading and running.
    """
    prepared = prepare_run(plan, model_folder=model_folder, quick=quick, ladder=ladder)
    check_disk(out)
    cores = prepared.detected.host.cpu.usable_cores
    share = busy_share(cores, watch_s=LOAD_WATCH_S)
    for sentence in _conditions(share, cores, prepared):
        on_event(sentence)
    on_event(f"writing to {out}; a run that was stopped is resumed with the same --out")
    save = partial(save_plan, plan, out / PLAN_FILE)
    return run_ladder(_ladder_of(plan, prepared, share), out, prefix_with_rung(on_event), cancel=cancel, on_start=save)


def _ladder_of(plan: PlanFile, prepared: PreparedRun, share: float | None) -> Ladder:
    """The rungs to measure, and on what; `share` is that of the processors which other processes use."""
    return Ladder(
        plan_id=plan.id,
        title=plan.title,
        model=prepared.model.id,
        folder=prepared.model_folder,
        draft_folder=prepared.draft_folder,
        text_file=HELDOUT_TEXT,
        request=prepared.request,
        environment=environment_of(prepared.detected, plan.machine.profile).model_copy(update={"busy_share": share}),
        recipe=prepared.recipe,
        steps=tuple(slower_by_load(rung, share) for rung in prepared.rungs),
        max_sequences=plan.apply.batching.max_num_seqs,
        dtype=prepared.dtype,
        device="cuda" if detected_hardware(prepared.detected).kind == "gpu" else "cpu",
    )


def _conditions(share: float | None, cores: int, prepared: PreparedRun) -> Iterator[str]:
    """What the measurements suffer from, a sentence each: other processes, too little memory for two processes."""
    if share is not None and share > BUSY_SHARE:
        yield (
            f"other processes use {100 * share:.0f} % of the {cores} processors: predicted times may be up to {1 / _free(share):.1f} times "
            "longer, and their ranges are widened by that"
        )
    if len(prepared.rungs) > 1 and not prepared.recipe.interleaved:
        yield "the baseline and the full stack do not fit in memory together: they are measured one after the other, not alternately"


def _free(share: float) -> float:
    return max(1 - share, LEAST_FREE_SHARE)


def slower_by_load(rung: LadderRung, share: float | None) -> LadderRung:
    """The rung with ranges widened by what other processes may take: times up to 1/(1 − share) longer, rates as much lower."""
    if share is None or share <= BUSY_SHARE:
        return rung
    widened = {name: _widened(name, value, _free(share)) for name, value in rung.predicted.present().items() if name in TIMED}
    return replace(rung, predicted=rung.predicted.model_copy(update=widened))


def _widened(name: str, value: Value, free: float) -> Value:
    worse = {"low": value.low * free} if METRICS[name].higher_is_better else {"high": value.high / free}
    return value.model_copy(update=worse)


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
