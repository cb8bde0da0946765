"""Where the session's questions are answered: the calls that `advisor plan` makes, prices kept between them. Knows no screen."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from advisor.estimate.cancellation import cancellable
from advisor.planning.advise import advise
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

_Found = TypeVar("_Found")

QUIET_S = 0.1
"""About as long as a frame takes."""


@dataclass(frozen=True, slots=True)
class Planned:
    """The answer to what was asked."""

    asked: FormValues
    advice: "Advice"
    spots: "tuple[Alternative, ...]"
    budget_gib: float
    """What may be used of a device."""
    here: bool
    """Whether the plan is for this machine."""
    final: bool = True
    """Whether this is the answer; else what is known before it was simulated, without reasons."""


class Abandoned(Exception):  # noqa: N818 - no error: nobody waits for the answer any more
    """Raised between two steps of an answer that nobody waits for."""


@dataclass(frozen=True, slots=True)
class Here:
    """This machine in words."""

    id: str
    words: str
    """Name, memory and number, as in `RTX 4090, 24.0 GiB`."""


class PlanningClient:
    """Answers questions one at a time, from whichever thread they come."""

    def __init__(self) -> None:
        self._turns = PriorityLock()
        self._preparing = threading.Lock()
        self._planners: PlannerCache | None = None
        self._here: Here | None = None
        self._quiet_until_s = 0.0

    def be_quiet(self) -> None:
        """Leave the interpreter to the screen for a moment: a key was pressed, and its frame has to be drawn."""
        self._quiet_until_s = time.monotonic() + QUIET_S

    def answer(self, asked: FormValues, abandoned: Callable[[], bool] = lambda: False) -> Planned | None:
        """The best plan and all others worth a look; `None` when nobody waits for it by the time it is its turn.

        Raises `AdvisorError` as `advisor plan` does; limits that nothing meets are an answer.
        """
        from advisor.planning.alternatives import alternatives

        with self._turns.urgent():
            if abandoned():
                return None
            planner, request = self._prepare(asked)
            advice = self._unless_abandoned(abandoned, lambda: advise(planner, request))
            if advice is None:
                return None
            return Planned(asked, advice, alternatives(planner, advice), planner.budget_gib(request), _is_here(asked))

    def sketch(self, asked: FormValues) -> Planned | None:
        """What is known at once, while another question may still be worked on; `None` where stacks have to be priced first.

        Raises `AdvisorError` as `advisor plan` does.
        """
        from advisor.planning.alternatives import preview

        planner, request = self._prepare(asked)
        if planner.cached_prices(request) is None:
            return None
        advice, spots = preview(planner, request)
        return Planned(asked, advice, spots, planner.budget_gib(request), _is_here(asked), final=False)

    def advice_for(self, planned: Planned, plan: str, abandoned: Callable[[], bool] = lambda: False) -> "Advice | None":
        """The answer with that plan of the landscape chosen, simulated and with its reasons; `None` when nobody waits for it any more."""
        from advisor.planning.alternatives import advice_for

        spot = next(spot for spot in planned.spots if spot.id == plan)
        with self._turns.urgent():
            planner, _ = self._prepare(planned.asked)
            return self._unless_abandoned(abandoned, lambda: advice_for(planner, planned.advice, spot.candidate))

    def simulated(self, planned: Planned, plan: str, abandoned: Callable[[], bool] = lambda: False) -> "Candidate | None":
        """That plan of the landscape with simulated numbers; `None` when nobody waits for it any more."""
        from advisor.planning.search import stack_of

        spot = next(spot for spot in planned.spots if spot.id == plan)
        with self._turns.urgent():
            planner, request = self._prepare(planned.asked)
            return self._unless_abandoned(abandoned, lambda: planner.candidate(stack_of(spot.candidate), request))

    def findings(
        self, planned: Planned, advice: "Advice", wanted: "Sequence[str]", abandoned: Callable[[], bool] = lambda: False
    ) -> "Iterator[Finding]":
        """What is found out about a plan, bit by bit, until nobody waits for it; whatever else a person waits for goes first."""
        from advisor.sensitivity.findings import findings

        def check() -> None:
            self._wait_or_abandon(abandoned)
            self._turns.yield_to_urgent()

        with self._turns.background():
            planner, _ = self._prepare(planned.asked)
        bits = findings(planner, advice, wanted)
        while True:
            try:
                with self._turns.background(), cancellable(check):
                    bit = next(bits, None)
            except Abandoned:
                return
            if bit is None:
                return
            yield bit

    def plan_file(self, asked: FormValues, advice: "Advice") -> "PlanFile":
        """The plan file of an answer, as `advisor plan` makes it."""
        from advisor.cli.profile_choice import read_model_and_profile
        from advisor.planfile.from_advice import plan_of

        profile = read_model_and_profile(asked.text("model"), asked.text("profile") or "auto")
        return plan_of(advice, profile_file=profile.profile_file)

    def here(self) -> Here:
        """This machine, looked at once."""
        from advisor.backends.detection.detect import detect, detected_hardware
        from advisor.profiles.formats import GIB
        from advisor.quantities.formatting import quantity

        if self._here is None:
            detected = detect()
            hardware = detected_hardware(detected)
            count = f"{detected.devices} x " if detected.devices > 1 else ""
            self._here = Here(hardware.id, f"{count}{hardware.name}, {quantity(hardware.memory_bytes / GIB, 'GiB')}")
        return self._here

    def forget_machine(self) -> None:
        """Look again and price anew, as after this machine was measured."""
        with self._turns.urgent():
            self._here = None
            if self._planners is not None:
                self._planners.clear()

    def fetch(self, model: str) -> None:
        """Look for a model on the network too, and keep its config. Raises `AdvisorError` where it cannot be had."""
        from advisor.profiles.model_store import find_model

        find_model(model, offline=False)

    def _prepare(self, asked: FormValues) -> "tuple[Planner, Request]":
        """Never asks the network: half a name is no name."""
        from advisor.cli.plan import question_of
        from advisor.service import PlannerCache

        question = question_of((*asked.words(), "--offline"))
        with self._preparing:
            self._planners = self._planners or PlannerCache()
            return self._planners.prepare(question)

    def _unless_abandoned(self, abandoned: Callable[[], bool], find: Callable[[], _Found]) -> _Found | None:
        """What is found; `None` once nobody waits for it."""
        try:
            with cancellable(lambda: self._wait_or_abandon(abandoned)):
                return find()
        except Abandoned:
            return None

    def _wait_or_abandon(self, abandoned: Callable[[], bool]) -> None:
        """Wait while a frame is drawn. Raises `Abandoned` once nobody waits for the answer."""
        while not abandoned() and time.monotonic() < self._quiet_until_s:
            time.sleep(QUIET_S / 20)
        if abandoned():
            raise Abandoned


def _is_here(asked: FormValues) -> bool:
    return not asked.text("hardware") and asked.text("profile") in ("", "auto", "none")
