"""How long work stands, as lines: a line a stage, one bar, time left, the last lines of the log. Knows no screen."""

from math import ceil

from advisor.backends.measure.ladder import LOGS_FOLDER
from advisor.planfile.deployment import shorter_home
from advisor.rendering.text.style import Look, clip, pad, wrap
from advisor.tui.workers.job import Job
from advisor.tui.workers.job_progress import BROKE, Ending, JobProgress, Stage, Standing

_SIGNS = {
    Standing.WAITING: ("·", "dim"),
    Standing.RUNNING: ("●", "mark"),
    Standing.DONE: ("✓", ""),
    Standing.KEPT: ("✓", "dim"),
    Standing.FAILED: ("×", "bad"),
    Standing.OUT_OF_MEMORY: ("×", "risk"),
    Standing.CANCELLED: ("×", "risk"),
}
_TONES = {Ending.DONE: "good", Ending.FAILED: "bad", Ending.CANCELLED: "risk"}
_BAR_CELLS = 40
_RESULT_COLUMNS = 64
"""What the numbers of a stage take beside its name."""
_MINUTE = 60


def job_lines(job: Job, look: Look, log_lines: int) -> list[str]:
    """All that is known of a job."""
    work = job.work
    labels = _labels(work, look)
    width = min(max(map(len, labels)), look.columns // 2 - 4)
    lines = [
        line
        for stage, label in zip(work.stages, labels, strict=True)
        for line in _stage_lines(stage, pad(label, width), look, starting=stage is work.starting)
    ]
    lines += ["", _bar(job, look)]
    if work.why:
        lines += ["", *(look.paint(line, "bad") for line in wrap(work.why, look))]
    if work.failed and job.task.folder is not None:
        lines += ["", *wrap(shorter_home(str(job.task.folder / LOGS_FOLDER)), look, first="Logs in ")]
    last = work.lines[-log_lines:] if log_lines > 0 else ()
    return [*lines, *([""] if last else []), *(look.paint(clip(line, look.columns), "dim") for line in last)]


def chip(job: Job | None) -> str:
    """A job in a few words, for the header; empty for none."""
    if job is None:
        return ""
    verb, work = job.task.verb, job.work
    if job.stopping:
        return f"{verb} stopping"
    if work.ended is not None:
        return f"{verb} {'done, with failures' if work.ended is Ending.DONE and work.failed else work.ended.value}"
    return f"{verb} {_pace(job)}"


def about(seconds: float) -> str:
    """A length of time as coarse as it is known."""
    if seconds < _MINUTE:
        return f"{max(5, 5 * ceil(seconds / 5))} s"
    minutes = ceil(seconds / _MINUTE)
    return f"{minutes} min" if minutes < 2 * _MINUTE else f"{minutes / _MINUTE:.1f} h"


def _labels(work: JobProgress, look: Look) -> list[str]:
    """The names of the stages; with the options of their techniques where that leaves room for results."""
    full = [f"{stage.name} {stage.options}".rstrip() for stage in work.stages]
    return full if max(map(len, full)) <= look.columns - _RESULT_COLUMNS else [stage.name for stage in work.stages]


def _stage_lines(stage: Stage, label: str, look: Look, *, starting: bool) -> list[str]:
    sign, tone = _SIGNS[Standing.RUNNING if starting else stage.standing]
    lines = wrap("starting" if starting else _told(stage), look, first=f"{sign} {label}  ", rest="    ")
    return [look.paint(line, tone) if tone else line for line in lines]


def _told(stage: Stage) -> str:
    """The stage's standing in words, and its numbers or its reason."""
    if stage.standing is Standing.RUNNING:
        return ", ".join(part for part in (stage.step or "running", stage.result) if part)
    if stage.standing is Standing.DONE and stage.result:
        return stage.result
    word = stage.standing.value
    where = f" in {stage.step}" if stage.step and stage.standing in (*BROKE, Standing.CANCELLED) else ""
    if stage.result.startswith(f"{word} "):
        return f"{word}{where}{stage.result.removeprefix(word)}"
    return f"{word}{where}" + (f": {stage.result}" if stage.result else "")


def _bar(job: Job, look: Look) -> str:
    work = job.work
    cells = min(_BAR_CELLS, look.columns - 30)
    full = round(work.share * cells)
    bar = "█" * full + "░" * (cells - full)
    if work.ended is not None:
        return f"{bar}  {look.paint(chip(job), _TONES[work.ended])}"
    return f"{bar}  {'stopping ...' if job.stopping else _pace(job)}"


def _pace(job: Job) -> str:
    """How far it is and how long it takes yet; before its first child has told anything, that it starts."""
    work = job.work
    if work.starting is not None and not work.share:
        return "starting"
    return f"{work.share:.0%}".replace("%", " %") + _left(job)


def _left(job: Job) -> str:
    left = job.left_s()
    return "" if left is None else f", about {about(left)} left"
