"""A preview of applying a plan: processes, files, memory and time, before anything is done."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from advisor.backends.detection.detect import Detected
from advisor.backends.measure.ladder_rungs import BASELINE, LOGS_FOLDER, REFERENCE_FILE
from advisor.planfile.file import PlanFile
from advisor.profiles.files import is_file, is_folder
from advisor.profiles.metrics import Metrics, Value
from advisor.profiles.request import Load, Workload
from advisor.profiles.run import RUN_FILE, Recipe, Run, RungStatus, read_run
from advisor.running.preflight import DISK_BYTES, PLAN_FILE, REPORT_FILE, PreparedRun, prepare_run

START_S = 8.0
"""Time to load the libraries and the model in a fresh process, roughly."""
FILES = (RUN_FILE, REPORT_FILE, PLAN_FILE, f"{LOGS_FOLDER}/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """A plan that can be run here, its run folder, and the resources it would take."""

    prepared: PreparedRun
    out: Path
    finished: tuple[str, ...]
    """Names of the rungs that an earlier run in that folder has finished; they are not measured again."""
    memory: Value | None
    """Predicted peak of the largest rung, GiB."""
    free_memory_bytes: int | None
    free_disk_bytes: int
    seconds: float
    """Predicted time of the rungs that are left."""

    @property
    def rungs(self) -> tuple[str, ...]:
        """The rungs in order, the baseline first."""
        return tuple(step.name for step in self.prepared.rungs)

    @property
    def disk_is_short(self) -> bool:
        """Whether the run would be refused for lack of disk space."""
        return self.free_disk_bytes < DISK_BYTES


def review(plan: PlanFile, out: Path, *, model_folder: Path | None = None) -> Review:
    """Preview applying `plan` into `out`, without side effects. Raises `AdvisorError` as `prepare_run` does."""
    prepared = prepare_run(plan, model_folder=model_folder)
    finished = finished_rungs(out) if is_folder(out) else ()
    peaks = [step.predicted.peak_memory_gib for step in prepared.rungs if step.predicted.peak_memory_gib is not None]
    left = [step.predicted for step in prepared.rungs if step.name not in finished]
    return Review(
        prepared=prepared,
        out=out,
        finished=finished,
        memory=max(peaks, key=lambda peak: peak.value, default=None),
        free_memory_bytes=free_memory_bytes(prepared.detected),
        free_disk_bytes=shutil.disk_usage(_existing_parent(out)).free,
        seconds=sum(rung_seconds(predicted, prepared.request.workload, prepared.recipe) for predicted in left),
    )


def finished_rungs(folder: Path) -> tuple[str, ...]:
    """Names of the rungs that a run in `folder` has finished; the baseline only counts with its scores, which later rungs need."""
    if not is_file(folder / RUN_FILE):
        return ()
    run = read_run(folder)
    has_scores = (folder / REFERENCE_FILE).is_file() or is_finished(run)
    return tuple(rung.name for rung in run.rungs if rung.status is RungStatus.DONE and (has_scores or rung.name != BASELINE))


def can_resume(review: Review) -> bool:
    """Whether the run in the folder has the same recipe and rungs, so that it can be resumed."""
    run = read_run(review.out)
    return run.recipe == review.prepared.recipe and [rung.name for rung in run.rungs] == list(review.rungs)


def is_finished(run: Run) -> bool:
    """Whether every rung was measured."""
    return all(rung.status is RungStatus.DONE for rung in run.rungs)


def free_memory_bytes(detected: Detected) -> int | None:
    """Free memory of the first GPU, or of the host without one."""
    return detected.gpus[0].free_bytes if detected.gpus else detected.host.ram_available_bytes


def rung_seconds(predicted: Metrics, workload: Workload, recipe: Recipe) -> float:
    """Predicted time of one rung: start, warm-up, every repeat, and scoring the quality text; parts without a prediction count as zero."""
    served = 0.0
    if predicted.throughput_tok_s is not None and predicted.throughput_tok_s.value > 0:
        answers = workload.output_tokens * (recipe.warmup_requests + recipe.requests * recipe.repeats)
        served = answers / predicted.throughput_tok_s.value
    if workload.load is Load.OPEN and workload.request_rate_per_s:
        served = max(served, recipe.requests * recipe.repeats / workload.request_rate_per_s)
    read = predicted.prefill_tok_s
    return START_S + served + (recipe.quality_tokens / read.value if read is not None and read.value > 0 else 0.0)


def _existing_parent(path: Path) -> Path:
    """The nearest folder above a path that exists."""
    path = path.absolute()
    return path if is_folder(path) else _existing_parent(path.parent)
