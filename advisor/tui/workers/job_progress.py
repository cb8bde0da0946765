"""Progress of long work: stages, share done, time left and last log lines, folded from the events of its child process."""

from dataclasses import dataclass, replace
from enum import StrEnum

from advisor.backends.processes.events import Event, Failed, Finished, Log, Measured, Profiled, Progress
from advisor.profiles.metrics import Metrics

MOST_LINES = 200
_RESULTS = ("ttft_ms_mean", "tpot_ms_mean", "throughput_tok_s")
_ESTIMATED_FROM = 0.03
"""Share done below which no time left is estimated."""


class StageStatus(StrEnum):
    """Status of one stage."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    REUSED = "reused from an earlier run"
    FAILED = "failed"
    OUT_OF_MEMORY = "out of memory"
    """A result of the stage, stored like any other."""
    CANCELLED = "cancelled"


FINISHED = (StageStatus.DONE, StageStatus.REUSED)
UNSUCCESSFUL = (StageStatus.FAILED, StageStatus.OUT_OF_MEMORY)


_BY_CODE = {"cancelled": StageStatus.CANCELLED, "out-of-memory": StageStatus.OUT_OF_MEMORY}


class Ending(StrEnum):
    """How the work as a whole ended."""

    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One part of the work, such as one rung of a run."""

    name: str
    options: str = ""
    """Of the technique that it adds."""
    status: StageStatus = StageStatus.WAITING
    step: str = ""
    """The step in progress."""
    share: float = 0.0
    """Share done, 0 to 1."""
    result: str = ""
    """Measured numbers, or why it failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobProgress:
    """Progress at one moment; each event gives a new value."""

    stages: tuple[Stage, ...]
    steps: tuple[str, ...] = ()
    """Steps of every stage, in order; empty where a stage is one step."""
    started_s: float = 0.0
    lines: tuple[str, ...] = ()
    left_s: float | None = None
    """Seconds left that the child process reported at `reported_s`; `None` where it reported none."""
    reported_s: float = 0.0
    ended: Ending | None = None
    why: str = ""
    """Why it failed as a whole."""

    @property
    def share(self) -> float:
        """Share done, 0 to 1, of the stages that are not reused from an earlier run."""
        counted = [stage for stage in self.stages if stage.status is not StageStatus.REUSED]
        if self.ended is Ending.DONE or not counted:
            return 1.0
        over = (StageStatus.DONE,) if self.ended is Ending.FAILED else (StageStatus.DONE, *UNSUCCESSFUL)
        return sum(1.0 if stage.status in over else stage.share for stage in counted) / len(counted)

    @property
    def complete(self) -> bool:
        """Whether every stage is finished or failed."""
        return all(stage.status in (*FINISHED, *UNSUCCESSFUL) for stage in self.stages)

    @property
    def failed(self) -> tuple[Stage, ...]:
        """The stages that failed or ran out of memory."""
        return tuple(stage for stage in self.stages if stage.status in UNSUCCESSFUL)

    @property
    def unfinished(self) -> tuple[Stage, ...]:
        """The stages without a result."""
        return tuple(stage for stage in self.stages if stage.status not in FINISHED)

    @property
    def starting(self) -> Stage | None:
        """The stage whose child process is starting: the first that waits, while none runs."""
        if self.ended is not None or any(stage.status is StageStatus.RUNNING for stage in self.stages):
            return None
        return next((stage for stage in self.stages if stage.status is StageStatus.WAITING), None)

    def left(self, now_s: float) -> float | None:
        """Seconds left: as the child process reported, else at the rate so far; `None` while neither is measured."""
        if self.ended is not None:
            return None
        if self.left_s is not None:
            return max(0.0, self.left_s - (now_s - self.reported_s))
        share = self.share
        return (now_s - self.started_s) * (1 - share) / share if share >= _ESTIMATED_FROM else None

    def on_event(self, event: Event | str, now_s: float) -> "JobProgress":
        """The progress after one event of the child process; other events change nothing."""
        match event:
            case Progress():
                return self._progressed(event, now_s)
            case str():
                return self._with_line(event)
            case Log():
                return self._with_line(event.text)
            case Measured():
                return self._with_result(_numbers(event.metrics))
            case Profiled():
                return self._with_result("shared with others, ranges are wider" if event.profile.shared else "")
            case Failed():
                return self._failed(event)
            case Finished():
                return self._running_becomes(StageStatus.DONE)
        return self

    def end(self, ending: Ending, why: str = "") -> "JobProgress":
        """The progress at the end; stages that had not started stay as they are."""
        last = {Ending.DONE: StageStatus.DONE, Ending.FAILED: StageStatus.FAILED, Ending.CANCELLED: StageStatus.CANCELLED}[ending]
        return replace(self._running_becomes(last), ended=ending, why=why)

    def _progressed(self, event: Progress, now_s: float) -> "JobProgress":
        name, step = self._stage_and_step(event.step)
        names = [stage.name for stage in self.stages]
        if name not in names:
            return self
        position = names.index(name)
        share = self._share(step, event.done / event.total if event.total else 0.0)
        stages = tuple(
            replace(stage, status=StageStatus.RUNNING, step=step, share=max(share, stage.share))
            if index == position
            else _before_running(stage)
            if index < position
            else stage
            for index, stage in enumerate(self.stages)
        )
        return replace(self, stages=stages, left_s=event.left_s, reported_s=now_s)

    def _stage_and_step(self, step: str) -> tuple[str, str]:
        """Stage and step of a name such as `baseline: load`; a name without a measured stage is a stage itself."""
        name, _, inner = step.partition(": ")
        return (name, inner) if inner and any(stage.name == name for stage in self.stages) else (step, "")

    def _share(self, step: str, done: float) -> float:
        done = min(max(done, 0.0), 1.0)
        return (self.steps.index(step) + done) / len(self.steps) if step in self.steps else 0.0 if self.steps else done

    def _with_line(self, text: str) -> "JobProgress":
        return replace(self, lines=(*self.lines, *text.splitlines())[-MOST_LINES:])

    def _with_result(self, text: str) -> "JobProgress":
        stages = tuple(
            replace(stage, result=text) if text and stage.status is StageStatus.RUNNING and not stage.result else stage
            for stage in self.stages
        )
        return replace(self, stages=stages)

    def _failed(self, event: Failed) -> "JobProgress":
        """Mark the stage that the message names, else the one that runs, as failed or cancelled."""
        name, message = self._stage_and_step(event.message)
        message = message or event.message
        status = _BY_CODE.get(event.code, StageStatus.FAILED)
        named = any(stage.name == name for stage in self.stages)
        stages = tuple(
            replace(stage, status=status, result=message)
            if (stage.name == name if named else stage.status is StageStatus.RUNNING)
            else stage
            for stage in self.stages
        )
        text = ": ".join(filter(None, (name if named else "", message)))
        return replace(self, stages=stages)._with_line("\n".join((text, *event.notes)))

    def _running_becomes(self, status: StageStatus) -> "JobProgress":
        stages = tuple(replace(stage, status=status) if stage.status is StageStatus.RUNNING else stage for stage in self.stages)
        return replace(self, stages=stages)


def _before_running(stage: Stage) -> Stage:
    """A stage before the one that runs: done, or reused where it never ran."""
    match stage.status:
        case StageStatus.RUNNING:
            return replace(stage, status=StageStatus.DONE)
        case StageStatus.WAITING:
            return replace(stage, status=StageStatus.REUSED)
    return stage


def _numbers(metrics: Metrics) -> str:
    """TTFT, TPOT and throughput in one line."""
    from advisor.quantities.formatting import quantity
    from advisor.quantities.metrics import METRICS

    measured = [(METRICS[name], value) for name in _RESULTS if (value := getattr(metrics, name)) is not None]
    return ", ".join(f"{metric.label} {quantity(value.value, metric.unit)}" for metric, value in measured)
