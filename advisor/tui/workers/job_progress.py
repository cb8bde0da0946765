"""How long work stands: its stages, share, time left and last lines, folded from the events of its child. Knows no screen."""

from dataclasses import dataclass, replace
from enum import StrEnum

from advisor.backends.processes.events import Event, Failed, Finished, Log, Measured, Profiled, Progress
from advisor.profiles.metrics import Metrics

MOST_LINES = 200
_RESULTS = ("ttft_ms_mean", "tpot_ms_mean", "throughput_tok_s")
_SURE_FROM = 0.03
"""Below this share, what is left is not told: too little is known."""


class Standing(StrEnum):
    """How one stage stands."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    KEPT = "kept from before"
    FAILED = "failed"
    OUT_OF_MEMORY = "out of memory"
    """A result like any other, and kept."""
    CANCELLED = "cancelled"


FINISHED = (Standing.DONE, Standing.KEPT)
BROKE = (Standing.FAILED, Standing.OUT_OF_MEMORY)


_BY_CODE = {"cancelled": Standing.CANCELLED, "out-of-memory": Standing.OUT_OF_MEMORY}


class Ending(StrEnum):
    """How the whole ended."""

    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One part of the work that ends by itself."""

    name: str
    options: str = ""
    """Of the technique that it adds."""
    standing: Standing = Standing.WAITING
    step: str = ""
    """What it does just now."""
    share: float = 0.0
    result: str = ""
    """What came of it: numbers, or why it failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobProgress:
    """Long work as it stands; each event makes another one."""

    stages: tuple[Stage, ...]
    steps: tuple[str, ...] = ()
    """What every stage does in turn; empty where a stage is one step."""
    begun_s: float = 0.0
    lines: tuple[str, ...] = ()
    left_s: float | None = None
    """Seconds left as the child said at `told_s`; `None` where it does not know."""
    told_s: float = 0.0
    ended: Ending | None = None
    why: str = ""
    """Why it failed as a whole."""

    @property
    def share(self) -> float:
        """Of what is to be done this time: stages kept from before do not count."""
        counted = [stage for stage in self.stages if stage.standing is not Standing.KEPT]
        if self.ended is Ending.DONE or not counted:
            return 1.0
        over = (Standing.DONE,) if self.ended is Ending.FAILED else (Standing.DONE, *BROKE)
        return sum(1.0 if stage.standing in over else stage.share for stage in counted) / len(counted)

    @property
    def complete(self) -> bool:
        """Whether every stage ended by itself."""
        return all(stage.standing in (*FINISHED, *BROKE) for stage in self.stages)

    @property
    def failed(self) -> tuple[Stage, ...]:
        """The stages that failed or ran out of memory."""
        return tuple(stage for stage in self.stages if stage.standing in BROKE)

    @property
    def unfinished(self) -> tuple[Stage, ...]:
        """The stages of which nothing is kept."""
        return tuple(stage for stage in self.stages if stage.standing not in FINISHED)

    @property
    def starting(self) -> Stage | None:
        """The stage whose child is being started: the first that waits, while none runs."""
        if self.ended is not None or any(stage.standing is Standing.RUNNING for stage in self.stages):
            return None
        return next((stage for stage in self.stages if stage.standing is Standing.WAITING), None)

    def left(self, now_s: float) -> float | None:
        """Seconds left: as the child said, else at the pace so far; `None` while that cannot be told."""
        if self.ended is not None:
            return None
        if self.left_s is not None:
            return max(0.0, self.left_s - (now_s - self.told_s))
        share = self.share
        return (now_s - self.begun_s) * (1 - share) / share if share >= _SURE_FROM else None

    def on_event(self, event: Event | str, now_s: float) -> "JobProgress":
        """The work after one event of its child; what is not about progress changes nothing."""
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
                return self._running_becomes(Standing.DONE)
        return self

    def end(self, ending: Ending, why: str = "") -> "JobProgress":
        """The work as it ended; stages that had not begun stay as they are."""
        last = {Ending.DONE: Standing.DONE, Ending.FAILED: Standing.FAILED, Ending.CANCELLED: Standing.CANCELLED}[ending]
        return replace(self._running_becomes(last), ended=ending, why=why)

    def _progressed(self, event: Progress, now_s: float) -> "JobProgress":
        name, step = self._place(event.step)
        names = [stage.name for stage in self.stages]
        if name not in names:
            return self
        here = names.index(name)
        share = self._share(step, event.done / event.total if event.total else 0.0)
        stages = tuple(
            replace(stage, standing=Standing.RUNNING, step=step, share=max(share, stage.share))
            if index == here
            else _passed(stage)
            if index < here
            else stage
            for index, stage in enumerate(self.stages)
        )
        return replace(self, stages=stages, left_s=event.left_s, told_s=now_s)

    def _place(self, step: str) -> tuple[str, str]:
        """The stage and the step within it that a child's name of a step means."""
        name, _, inner = step.partition(": ")
        return (name, inner) if inner and any(stage.name == name for stage in self.stages) else (step, "")

    def _share(self, step: str, done: float) -> float:
        done = min(max(done, 0.0), 1.0)
        return (self.steps.index(step) + done) / len(self.steps) if step in self.steps else 0.0 if self.steps else done

    def _with_line(self, text: str) -> "JobProgress":
        return replace(self, lines=(*self.lines, *text.splitlines())[-MOST_LINES:])

    def _with_result(self, text: str) -> "JobProgress":
        stages = tuple(
            replace(stage, result=text) if text and stage.standing is Standing.RUNNING and not stage.result else stage
            for stage in self.stages
        )
        return replace(self, stages=stages)

    def _failed(self, event: Failed) -> "JobProgress":
        """The stage that the message names, else the one that runs; a cancelled child is no failure."""
        name, message = self._place(event.message)
        message = message or event.message
        standing = _BY_CODE.get(event.code, Standing.FAILED)
        named = any(stage.name == name for stage in self.stages)
        stages = tuple(
            replace(stage, standing=standing, result=message)
            if (stage.name == name if named else stage.standing is Standing.RUNNING)
            else stage
            for stage in self.stages
        )
        said = ": ".join(filter(None, (name if named else "", message)))
        return replace(self, stages=stages)._with_line("\n".join((said, *event.notes)))

    def _running_becomes(self, standing: Standing) -> "JobProgress":
        stages = tuple(replace(stage, standing=standing) if stage.standing is Standing.RUNNING else stage for stage in self.stages)
        return replace(self, stages=stages)


def _passed(stage: Stage) -> Stage:
    """A stage before the one that runs: it is done, or was before this work began."""
    match stage.standing:
        case Standing.RUNNING:
            return replace(stage, standing=Standing.DONE)
        case Standing.WAITING:
            return replace(stage, standing=Standing.KEPT)
    return stage


def _numbers(metrics: Metrics) -> str:
    """The numbers that a person waits for, in a line."""
    from advisor.quantities.formatting import quantity
    from advisor.quantities.metrics import METRICS

    known = [(METRICS[name], value) for name in _RESULTS if (value := getattr(metrics, name)) is not None]
    return ", ".join(f"{shown.label} {quantity(value.value, shown.unit)}" for shown, value in known)
