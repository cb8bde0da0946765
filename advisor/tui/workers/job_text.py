"""Progress of long work as lines: one for each stage, a bar, time left, the last lines of the log."""

from math import ceil

from advisor.backends.measure.ladder_rungs import LOGS_FOLDER
from advisor.planfile.deployment import shorter_home
from advisor.rendering.text.style import Look, clip, pad, wrap
from advisor.tui.workers.job import Job
from advisor.tui.workers.job_progress import UNSUCCESSFUL, Ending, JobProgress, Stage, StageStatus

_SIGNS = {
    StageStatus.WAITING: ("·", "dim"),
    StageStatus.RUNNING: ("●", "mark"),
    StageStatus.DONE: ("✓", ""),
    StageStatus.REUSED: ("✓", "dim"),
    StageStatus.FAILED: ("×", "bad"),
    StageStatus.OUT_OF_MEMORY: ("×", "risk"),
    StageStatus.CANCELLED: ("×", "risk"),
}
_TONES = {Ending.DONE: "good", Ending.FAILED: "bad", Ending.CANCELLED: "risk"}
_BAR_CELLS = 40
_RESULT_COLUMNS = 64
"""Columns for the numbers after the name of a stage."""
_MINUTE = 60


def job_lines(job: Job, look: Look, log_lines: int) -> list[str]:
    """The job in `look.columns` columns, with at most `log_lines` lines of its log."""
    progress = job.progress
    labels = _labels(progress, look)
    width = min(max(map(len, labels)), look.columns // 2 - 4)
    lines = [
        line
        for stage, label in zip(progress.stages, labels, strict=True)
        for line in _stage_lines(stage, pad(label, width), look, starting=stage is progress.starting)
    ]
    lines += ["", _bar(job, look)]
    if progress.why:
        lines += ["", *(look.paint(line, "bad") for line in wrap(progress.why, look))]
    if progress.failed and job.task.folder is not None:
        lines += ["", *wrap(shorter_home(str(job.task.folder / LOGS_FOLDER)), look, first="Logs in ")]
    last = progress.lines[-log_lines:] if log_lines > 0 else ()
    return [*lines, *([""] if last else []), *(look.paint(clip(line, look.columns), "dim") for line in last)]


def chip(job: Job | None) -> str:
    """A job in a few words, for the header; empty for `None`."""
    if job is None:
        return ""
    verb, progress = job.task.verb, job.progress
    if job.stopping:
        return f"{verb} stopping"
    if progress.ended is not None:
        return f"{verb} {'done, with failures' if progress.ended is Ending.DONE and progress.failed else progress.ended.value}"
    return f"{verb} {_progress(job)}"


def about(seconds: float) -> str:
    """A duration rounded up: to 5 s below a minute, to minutes below two hours, then to tenths of an hour."""
    if seconds < _MINUTE:
        return f"{max(5, 5 * ceil(seconds / 5))} s"
    minutes = ceil(seconds / _MINUTE)
    return f"{minutes} min" if minutes < 2 * _MINUTE else f"{minutes / _MINUTE:.1f} h"


def _labels(progress: JobProgress, look: Look) -> list[str]:
    """Names of the stages, with the options of their techniques where results still fit."""
    full = [f"{stage.name} {stage.options}".rstrip() for stage in progress.stages]
    return full if max(map(len, full)) <= look.columns - _RESULT_COLUMNS else [stage.name for stage in progress.stages]


def _stage_lines(stage: Stage, label: str, look: Look, *, starting: bool) -> list[str]:
    sign, tone = _SIGNS[StageStatus.RUNNING if starting else stage.status]
    lines = wrap("starting" if starting else _status(stage), look, first=f"{sign} {label}  ", rest="    ")
    return [look.paint(line, tone) if tone else line for line in lines]


def _status(stage: Stage) -> str:
    """Status of a stage in words, with its numbers or the reason of a failure."""
    if stage.status is StageStatus.RUNNING:
        return ", ".join(part for part in (stage.step or "running", stage.result) if part)
    if stage.status is StageStatus.DONE and stage.result:
        return stage.result
    word = stage.status.value
    where = f" in {stage.step}" if stage.step and stage.status in (*UNSUCCESSFUL, StageStatus.CANCELLED) else ""
    if stage.result.startswith(f"{word} "):
        return f"{word}{where}{stage.result.removeprefix(word)}"
    return f"{word}{where}" + (f": {stage.result}" if stage.result else "")


def _bar(job: Job, look: Look) -> str:
    progress = job.progress
    cells = min(_BAR_CELLS, look.columns - 30)
    full = round(progress.share * cells)
    bar = "█" * full + "░" * (cells - full)
    if progress.ended is not None:
        return f"{bar}  {look.paint(chip(job), _TONES[progress.ended])}"
    return f"{bar}  {'stopping ...' if job.stopping else _progress(job)}"


def _progress(job: Job) -> str:
    """Percent done and time left; `starting` until the first child process reports progress."""
    progress = job.progress
    if progress.starting is not None and not progress.share:
        return "starting"
    return f"{progress.share:.0%}".replace("%", " %") + _left(job)


def _left(job: Job) -> str:
    left = job.left_s()
    return "" if left is None else f", about {about(left)} left"
