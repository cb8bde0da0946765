"""Two plans are compared with simulated numbers, whichever of them was in closed form only."""

from textual.widgets import Static

from advisor.tui.screens.two_plans import SIMULATING, TwoPlansScreen
from tests.tui.driving import SHARED_APP, settled, shared_app


def test_a_plan_in_closed_form_is_simulated_while_it_is_compared() -> None:
    async def drive() -> None:
        async with shared_app() as (app, pilot):
            assert app.planning.planned is not None
            plans = app.planning.planned.alternatives
            guessed = next(plan for plan in plans if not plan.simulated)
            assert guessed.candidate.metrics.e2e_ms_mean is None
            app.push_screen(TwoPlansScreen(app, app.planning.planned, (plans[0], guessed)))
            await settled(pilot)
            box = app.screen.query_one(".box")
            assert box.border_subtitle != SIMULATING
            row = next(line for line in str(app.screen.query_one("#text", Static).content).splitlines() if "E2E mean" in line)
            assert row.count("[") == 2, "both have a number with its range"

    SHARED_APP.run(drive())


def test_leaving_the_comparison_abandons_the_simulation() -> None:
    async def drive() -> None:
        async with shared_app() as (app, pilot):
            assert app.planning.planned is not None
            plans = app.planning.planned.alternatives
            app.push_screen(TwoPlansScreen(app, app.planning.planned, [plan for plan in plans if not plan.simulated][-2:]))
            await pilot.press("escape")
            await settled(pilot)
            assert not isinstance(app.screen, TwoPlansScreen)
            assert not [worker for worker in app.workers if worker.is_running]

    SHARED_APP.run(drive())


def test_the_table_shows_what_was_simulated_of_a_plan_as_soon_as_its_reasons_do() -> None:
    async def drive() -> None:
        async with shared_app() as (app, pilot):
            assert app.planning.planned is not None
            guessed = next(plan for plan in app.planning.planned.alternatives if not plan.simulated)
            app.planning.select(guessed.id)
            await settled(pilot)
            assert app.planning.detail is not None
            shown = next(plan for plan in app.planning.planned.alternatives if plan.id == guessed.id)
            assert shown.simulated
            assert shown.candidate == app.planning.detail.chosen

    SHARED_APP.run(drive())
