"""Long work: in front, in the background, cancelled, failed, resized, and quit while it runs."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from textual.pilot import Pilot
from textual.widgets import OptionList, Static

from advisor.backends.processes.events import Finished, Log
from advisor.profiles.errors import AdvisorError
from advisor.profiles.run import Run, RungStatus
from advisor.running.folders import runs_folder
from advisor.tui.app import AdvisorApp
from advisor.tui.form.problem import problem_of
from advisor.tui.form.values import FormValues
from advisor.tui.screens.asking import AskScreen, refusal
from advisor.tui.screens.compare import CompareScreen
from advisor.tui.screens.work import WorkScreen
from advisor.tui.workers.job_progress import Ending
from advisor.tui.workers.machine_tasks import MachineTasks
from advisor.tui.workers.planning_client import Planned
from tests.paths import ROOT
from tests.tui.canned import QUESTION, CannedClient
from tests.tui.driving import ON_A_CARD, SHARED_APP, an_app, driven, frame, message_of, settled, shared_app, shared_client
from tests.tui.jobs import ByHand, progress, run_folder, until

CANNED_RUN = (ROOT / "tests/canned/run.json").read_text(encoding="utf-8")


class CountingClient(CannedClient):
    def __init__(self) -> None:
        super().__init__()
        self.forgotten = 0

    def forget_machine(self) -> None:
        self.forgotten += 1


@asynccontextmanager
async def working(tasks: MachineTasks, size: tuple[int, int] = (120, 40)) -> AsyncIterator[tuple[AdvisorApp, Pilot[None]]]:
    """The shared app with these tasks."""
    async with shared_app(QUESTION, CountingClient(), size) as (app, pilot):
        app.jobs.use_tasks(tasks)
        yield app, pilot


@asynccontextmanager
async def profiling(hands: ByHand) -> AsyncIterator[tuple[AdvisorApp, Pilot[None]]]:
    """The shared app in which a profile has just begun, its screen in front."""
    async with working(hands) as (app, pilot):
        await begin_profile(app, pilot)
        yield app, pilot


@asynccontextmanager
async def profiling_alone(hands: ByHand) -> AsyncIterator[tuple[AdvisorApp, Pilot[None]]]:
    """The same in an app of its own, which ends."""
    app = an_app(QUESTION, client=CountingClient())
    app.jobs.use_tasks(hands)
    async with driven(app) as pilot:
        await begin_profile(app, pilot)
        yield app, pilot


async def begin_profile(app: AdvisorApp, pilot: Pilot[None]) -> None:
    await pilot.press("escape", "p")
    await until(pilot, lambda: isinstance(app.screen, WorkScreen))


def header_of(app: AdvisorApp) -> str:
    return str(app.screen_stack[0].query_one("#header", Static).content)


def test_a_profile_shows_its_steps_and_plans_anew_when_it_is_done() -> None:
    async def drive() -> None:
        hands = ByHand()
        async with profiling(hands) as (app, pilot):
            hands.say(progress("memory bandwidth", 1, 1), progress("products", 1, 2, left_s=40.0), Log(text="a line [of] the log"))
            await until(pilot, lambda: "a line [of] the log" in frame(app))
            text = frame(app)
            assert "✓ memory bandwidth  done" in text
            assert "● products" in text
            assert "75 %, about 40 s left" in text or "75 %, about 35 s left" in text
            hands.say(progress("products", 2, 2), Finished(seconds=1))
            hands.finish()
            await until(pilot, lambda: "profile done" in frame(app))
            assert isinstance(app.planning.client, CountingClient)
            assert app.planning.client.forgotten == 1
            await pilot.press("escape")
            await settled(pilot)
            assert app.jobs.chip == ""
            assert len(app.screen_stack) == 1

    SHARED_APP.run(drive())


def test_escape_leaves_the_work_running_with_a_chip_and_its_key_brings_it_back() -> None:
    async def drive() -> None:
        hands = ByHand()
        async with profiling(hands) as (app, pilot):
            await pilot.press("escape")
            hands.say(progress("products", 1, 2))
            await until(pilot, lambda: "profile 50 %" in header_of(app))
            assert not isinstance(app.screen, WorkScreen)
            await pilot.press("s")
            assert app.store.state.sort == "memory"
            await pilot.press("p")
            await until(pilot, lambda: isinstance(app.screen, WorkScreen))
            assert hands.begun == ["profile"]
            hands.finish()
            await until(pilot, lambda: "profile done" in frame(app))

    SHARED_APP.run(drive())


def test_an_end_in_the_background_is_shown_and_stays_in_the_header_until_it_was_seen() -> None:
    async def drive() -> None:
        hands = ByHand()
        async with profiling(hands) as (app, pilot):
            await pilot.press("escape")
            hands.fail(AdvisorError("profile-failed", "this machine could not be measured: killed by SIGKILL", notes=("the last line",)))
            await until(pilot, lambda: "profile failed" in header_of(app))
            await pilot.press("p")
            await until(pilot, lambda: "killed by SIGKILL. The last line" in frame(app))
            assert hands.begun == ["profile"]
            await pilot.press("escape")
            await settled(pilot)
            assert "profile" not in header_of(app)
            assert app.is_running

    SHARED_APP.run(drive())


def test_r_does_failed_work_again() -> None:
    async def drive() -> None:
        hands = ByHand()
        async with profiling(hands) as (app, pilot):
            await pilot.press("r")
            assert hands.begun == ["profile"]
            hands.say(progress("products", 1, 2))
            hands.fail(AdvisorError("profile-failed", "this machine could not be measured"))
            await until(pilot, lambda: "r tries again" in frame(app))
            await pilot.press("r")
            await until(pilot, lambda: app.jobs.job is not None and app.jobs.job.running and "memory bandwidth  starting" in frame(app))
            assert isinstance(app.screen, WorkScreen)
            hands.finish()
            await until(pilot, lambda: "profile done" in frame(app))
            assert "r tries again" not in frame(app)

    SHARED_APP.run(drive())


@pytest.mark.slow
def test_cancelled_work_has_ended_before_the_screen_says_so() -> None:
    async def drive() -> None:
        hands = ByHand()
        async with profiling(hands) as (app, pilot):
            hands.say(progress("memory bandwidth", 1, 2))
            await pilot.press("ctrl+x")
            await until(pilot, lambda: "profile cancelled" in frame(app))
            assert hands.gone.is_set()
            assert app.jobs.job is not None
            assert app.jobs.job.progress.ended is Ending.CANCELLED

    SHARED_APP.run(drive())


@pytest.mark.parametrize(
    ("keys", "begun"),
    [
        pytest.param(("enter",), [], marks=pytest.mark.slow),
        (("down", "enter"), ["waiting profile"]),
        pytest.param(("down", "down", "enter"), ["profile"], marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_other_load_is_shown_before_anything_starts(keys: tuple[str, ...], begun: list[str]) -> None:
    async def drive() -> None:
        hands = ByHand(busy="GPU 0 is 63 % busy (pid 4711)")
        async with working(hands) as (app, pilot):
            await pilot.press("escape", "p")
            await until(pilot, lambda: isinstance(app.screen, AskScreen))
            assert "GPU 0 is 63 % busy (pid 4711)." in frame(app)
            assert hands.begun == []
            await pilot.press(*keys)
            hands.finish()
            await settled(pilot)
            assert hands.begun == begun

    SHARED_APP.run(drive())


@pytest.mark.parametrize("sizes", [((60, 16),), pytest.param(((80, 24), (200, 50), (120, 40)), marks=pytest.mark.slow)], ids=str)
def test_work_is_drawn_at_any_size(sizes: tuple[tuple[int, int], ...]) -> None:
    async def drive() -> None:
        hands = ByHand()
        async with profiling(hands) as (app, pilot):
            hands.say(progress("products", 1, 2), *(Log(text=f"line {number}") for number in range(100)))
            for size in sizes:
                await pilot.resize_terminal(*size)
                await until(pilot, lambda: "line 99" in frame(app))
                text = frame(app)
                assert "products" in text
                assert "ctrl+x cancels" in text
                assert "50 %" in text
            hands.finish()
            await settled(pilot)

    SHARED_APP.run(drive())


def test_quitting_asks_where_work_runs_and_ends_it_first() -> None:
    async def drive() -> None:
        hands = ByHand()
        async with profiling_alone(hands) as (app, pilot):
            await pilot.press("ctrl+q")
            await until(pilot, lambda: isinstance(app.screen, AskScreen))
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(app.screen, WorkScreen))
            assert app.jobs.job is not None
            assert app.jobs.job.running
            await pilot.press("ctrl+q")
            await until(pilot, lambda: isinstance(app.screen, AskScreen))
            await pilot.press("down", "enter")
            await until(pilot, lambda: not app.is_running or app._exit)
            assert hands.gone.is_set()

    asyncio.run(drive())


def test_an_app_that_ends_leaves_no_work_running() -> None:
    async def drive() -> None:
        hands = ByHand()
        async with profiling_alone(hands):
            pass
        assert hands.gone.is_set()

    asyncio.run(drive())


def test_a_plan_for_another_machine_is_refused() -> None:
    client = shared_client()
    planned = client.answer(ON_A_CARD)
    assert planned is not None
    with pytest.raises(AdvisorError) as raised:
        MachineTasks().review(client.plan_file(ON_A_CARD, planned.advice))
    assert refusal(problem_of(raised.value))[0].startswith("The plan was made for another machine")
    assert not runs_folder().exists()


@pytest.mark.slow
def test_a_plan_for_another_machine_is_refused_with_the_reason() -> None:
    async def drive() -> None:
        async with shared_app() as (app, pilot):
            await pilot.press("escape", "a")
            await until(pilot, lambda: isinstance(app.screen, AskScreen))
            assert "The plan was made for another machine" in frame(app)
            await pilot.press("enter")
            await settled(pilot)
            assert len(app.screen_stack) == 1
            assert not runs_folder().exists()

    SHARED_APP.run(drive())


def test_a_model_without_weights_here_is_refused_with_the_reason() -> None:
    async def drive() -> None:
        async with shared_app(FormValues({"model": "Qwen/Qwen3-0.6B", "context": "512", "profile": "none"})) as (app, pilot):
            await pilot.press("escape", "a")
            await until(pilot, lambda: isinstance(app.screen, AskScreen))
            assert "its weights are needed" in " ".join(frame(app).split())

    SHARED_APP.run(drive())


def test_without_a_mark_c_lists_the_runs_and_opens_one() -> None:
    async def drive() -> None:
        run_folder(runs_folder() / "20261122T000000Z-plan-00c0ffee", CANNED_RUN)
        run_folder(runs_folder() / "20261121T000000Z-plan-broken", "{")
        async with working(MachineTasks()) as (app, pilot):
            await pilot.press("escape", "c")
            await until(pilot, lambda: len(app.screen_stack) == 2)
            assert app.screen.query_one(OptionList).option_count == 1
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(app.screen, CompareScreen))
            await until(pilot, lambda: "values within their predicted range" in frame(app))
            await pilot.resize_terminal(80, 24)
            await until(pilot, lambda: "MISSED" in frame(app))
            await pilot.press("f")
            await until(pilot, lambda: isinstance(app.screen, AskScreen))
            assert "Nothing was refitted" in frame(app)
            await pilot.press("escape", "o")
            await until(pilot, lambda: "Runs on this machine" in frame(app))

    SHARED_APP.run(drive())


def stopped_run(plan_id: str, *, first: RungStatus) -> str:
    """A run of which all but the first rung were not run, and that ended like this."""
    run = Run.model_validate_json(CANNED_RUN)
    rungs = [run.rungs[0].model_copy(update={"status": first, "measured": run.rungs[0].measured if first is RungStatus.DONE else None})]
    rungs += [rung.model_copy(update={"status": RungStatus.NOT_RUN, "measured": None}) for rung in run.rungs[1:]]
    return run.model_copy(update={"plan_id": plan_id, "rungs": tuple(rungs)}).model_dump_json()


def test_a_run_cancelled_before_its_first_rung_was_done_is_said_to_have_measured_nothing() -> None:
    async def drive() -> None:
        folder = run_folder(runs_folder() / "20261122T000000Z-plan-x", stopped_run("plan-x", first=RungStatus.CANCELLED))
        async with working(MachineTasks(), (80, 24)) as (app, pilot):
            app.jobs.open_run(folder)
            await until(pilot, lambda: "Nothing was measured" in frame(app))
            assert "not measured" not in frame(app)
            assert "0 of 0" not in frame(app)

    SHARED_APP.run(drive())


class CannedHere(CannedClient):
    """Canned answers that are plans for this machine."""

    def answer(self, values: FormValues, abandoned: Callable[[], bool] = lambda: False) -> Planned | None:
        planned = super().answer(values, abandoned)
        return planned and replace(planned, on_this_machine=True)


@pytest.mark.parametrize(("first", "done"), [(RungStatus.DONE, 1), pytest.param(RungStatus.CANCELLED, 0, marks=pytest.mark.slow)])
def test_a_resumed_state_says_once_that_a_run_can_be_resumed(first: RungStatus, done: int) -> None:
    async def resumed() -> tuple[str, list[str]]:
        app = an_app(QUESTION, client=CannedHere())
        async with driven(app) as pilot:
            await pilot.press("escape", "2", "f", "down", "up")
            await settled(pilot)
            assert app.planning.planned is not None
            assert app.planning.detail is not None
            plan = app.planning.client.plan_file(app.planning.planned.values, app.planning.detail).id
            return plan, [notice.message for notice in app._notifications]

    plan, before = asyncio.run(resumed())
    assert before == []
    run_folder(runs_folder() / f"20261122T000000Z-{plan}", stopped_run(plan, first=first))
    _, after = asyncio.run(resumed())
    assert after == [f"A run of this plan is unfinished: {done} of 7 rungs are finished. a runs the rest."]


def test_without_a_run_c_says_how_to_get_one() -> None:
    async def drive() -> None:
        async with working(MachineTasks()) as (app, pilot):
            await pilot.press("escape", "c")
            await until(pilot, lambda: "No runs yet" in message_of(app))

    SHARED_APP.run(drive())
