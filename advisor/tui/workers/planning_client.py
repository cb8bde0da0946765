"""The planning client: answers the form's questions as `advisor plan` does, with prices cached between questions."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from advisor.estimate.cancellation import cancellable
from advisor.tui.form.values import FormValues
from advisor.tui.workers.priority_lock import PriorityLock

if TYPE_CHECKING:  # the planner is loaded by the first question, after the first frame
    from advisor.planfile.file import PlanFile
    from advisor.planning.advice import Advice, Candidate
    from advisor.planning.alternatives import Alternative
    from advisor.planning.planner import Planner
    from advisor.profiles.request import Request
    from advisor.sensitivity.findings import Finding
    from advisor.service import PlannerCache

_Result = TypeVar("_Result")

FRAME_S = 0.1
"""Time in which a frame is drawn."""


@dataclass(frozen=True, slots=True)
class Planned:
    """The answer to a question."""

    values: FormValues
    """The question."""
    advice: "Advice"
    alternatives: "tuple[Alternative, ...]"
    """Every plan of the table."""
    budget_gib: float
    """Usable memory of a device, GiB."""
    on_this_machine: bool
    """Whether the plan is for this machine."""
    final: bool = True
    """`False` for a preview: numbers of the closed form, no simulation, no reasons."""


class Abandoned(Exception):  # noqa: N818 - not an error: the answer is no longer needed
    """Raised between two steps of a computation whose result is no longer needed."""


@dataclass(frozen=True, slots=True)
class ThisMachine:
    """The machine that the terminal interface runs on."""

    id: str
    """Hardware id."""
    label: str
    """Devices, name and memory, as in `2 x RTX 4090, 24.0 GiB`."""


class PlanningClient:
    """Answers questions of any thread, one at a time."""

    def __init__(self) -> None:
        self._lock = PriorityLock()
        self._preparing = threading.Lock()
        self._planners: PlannerCache | None = None
        self._this_machine: ThisMachine | None = None
        self._paused_until_s = 0.0

    def pause_for_frame(self) -> None:
        """Pause planning for `FRAME_S`, so that the frame after a key press is drawn first."""
        self._paused_until_s = time.monotonic() + FRAME_S

    def answer(self, values: FormValues, abandoned: Callable[[], bool] = lambda: False) -> Planned | None:
        """The best plan and its alternatives; `None` once `abandoned` returns true.

        Raises `AdvisorError` as `advisor plan` does. Limits that no plan meets are an answer, not an error.
        """
        from advisor.planning.advise import advise
        from advisor.planning.alternatives import alternatives

        with self._lock.urgent():
            if abandoned():
                return None
            planner, request = self._prepare(values)
            advice = self._unless_abandoned(abandoned, lambda: advise(planner, request))
            if advice is None:
                return None
            return Planned(values, advice, alternatives(planner, advice), planner.budget_gib(request), _on_this_machine(values))

    def preview(self, values: FormValues) -> Planned | None:
        """The plans ranked by cached prices, without simulation, while another question may be in work; `None` where prices are missing.

        Raises `AdvisorError` as `advisor plan` does.
        """
        from advisor.planning.alternatives import preview

        planner, request = self._prepare(values)
        if planner.cached_prices(request) is None:
            return None
        advice, shown = preview(planner, request)
        return Planned(values, advice, shown, planner.budget_gib(request), _on_this_machine(values), final=False)

    def advice_for(self, planned: Planned, plan: str, abandoned: Callable[[], bool] = lambda: False) -> "Advice | None":
        """The answer with the alternative `plan` (an id) as its chosen plan, simulated, with reasons; `None` once abandoned."""
        from advisor.planning.alternatives import advice_for

        alternative = next(alternative for alternative in planned.alternatives if alternative.id == plan)
        with self._lock.urgent():
            planner, _ = self._prepare(planned.values)
            return self._unless_abandoned(abandoned, lambda: advice_for(planner, planned.advice, alternative.candidate))

    def simulated(self, planned: Planned, plan: str, abandoned: Callable[[], bool] = lambda: False) -> "Candidate | None":
        """The alternative `plan` (an id) with simulated numbers; `None` once `abandoned` returns true."""
        from advisor.planning.candidates import stack_of

        alternative = next(alternative for alternative in planned.alternatives if alternative.id == plan)
        with self._lock.urgent():
            planner, request = self._prepare(planned.values)
            return self._unless_abandoned(abandoned, lambda: planner.simulate(stack_of(alternative.candidate), request))

    def findings(
        self, planned: Planned, advice: "Advice", topics: "Sequence[str]", abandoned: Callable[[], bool] = lambda: False
    ) -> "Iterator[Finding]":
        """Findings about limits and techniques of a plan, one at a time, until `abandoned` returns true. Other questions go first.

        `topics` names limits and techniques.
        """
        from advisor.sensitivity.findings import findings

        def check() -> None:
            self._wait_or_abandon(abandoned)
            self._lock.yield_to_urgent()

        with self._lock.background():
            planner, _ = self._prepare(planned.values)
        results = findings(planner, advice, topics)
        while True:
            try:
                with self._lock.background(), cancellable(check):
                    finding = next(results, None)
            except Abandoned:
                return
            if finding is None:
                return
            yield finding

    def plan_file(self, values: FormValues, advice: "Advice") -> "PlanFile":
        """The plan file of an answer, as `advisor plan` makes it."""
        from advisor.cli.profile_choice import read_model_and_profile
        from advisor.planfile.from_advice import plan_of

        profile = read_model_and_profile(values.text("model"), values.text("profile") or "auto")
        return plan_of(advice, profile_file=profile.profile_file)

    def this_machine(self) -> ThisMachine:
        """This machine, detected once."""
        from advisor.backends.detection.detect import detect, detected_hardware
        from advisor.profiles.formats import GIB
        from advisor.quantities.formatting import quantity

        if self._this_machine is None:
            detected = detect()
            hardware = detected_hardware(detected)
            count = f"{detected.devices} x " if detected.devices > 1 else ""
            self._this_machine = ThisMachine(hardware.id, f"{count}{hardware.name}, {quantity(hardware.memory_bytes / GIB, 'GiB')}")
        return self._this_machine

    def forget_machine(self) -> None:
        """Detect this machine again and drop cached prices, as after it was measured."""
        with self._lock.urgent():
            self._this_machine = None
            if self._planners is not None:
                self._planners.clear()

    def fetch(self, model: str) -> None:
        """Look for a model on the network too, and store its config. Raises `AdvisorError` where it is not results."""
        from advisor.profiles.model_store import find_model

        find_model(model, offline=False)

    def _prepare(self, values: FormValues) -> "tuple[Planner, Request]":
        """The planner and the request of a question. Never uses the network: the name of a model may be incomplete while it is typed."""
        from advisor.service import PlannerCache
        from advisor.tui.form.question import question_of

        question = question_of(values)
        with self._preparing:
            self._planners = self._planners or PlannerCache()
            return self._planners.prepare(question)

    def _unless_abandoned(self, abandoned: Callable[[], bool], compute: Callable[[], _Result]) -> _Result | None:
        """The result of `compute`; `None` once `abandoned` returns true."""
        try:
            with cancellable(lambda: self._wait_or_abandon(abandoned)):
                return compute()
        except Abandoned:
            return None

    def _wait_or_abandon(self, abandoned: Callable[[], bool]) -> None:
        """Wait while a frame is drawn. Raises `Abandoned` once `abandoned` returns true."""
        while not abandoned() and time.monotonic() < self._paused_until_s:
            time.sleep(FRAME_S / 20)
        if abandoned():
            raise Abandoned


def _on_this_machine(values: FormValues) -> bool:
    return not values.text("hardware") and values.text("profile") in ("", "auto", "none")
