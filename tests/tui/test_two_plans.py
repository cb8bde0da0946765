"""Two plans are compared with simulated numbers, whichever of them was in closed form only."""

import asyncio

from textual.widgets import Static

from advisor.tui.screens.two_plans import SIMULATING, TwoPlansScreen
from tests.tui.driving import ON_A_CARD, SHARED_APP, planning_alone, settled, shared_app, shared_client


def test_a_plan_in_closed_form_is_simulated_while_it_is_compared() -> None:
    async def drive() -> None:
        async with shared_app() as (app, pilot):
            assert app.planning.planned is not None
            plans = app.planning.planned.alternatives
            closed_form = next(plan for plan in plans if not plan.simulated)
            assert closed_form.candidate.metrics.e2e_ms_mean is None
            app.push_screen(TwoPlansScreen(app, app.planning.planned, (plans[0], closed_form)))
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
        async with planning_alone(ON_A_CARD, shared_client()) as (planning, _):
            assert planning.planned is not None
            closed_form = next(plan for plan in planning.planned.alternatives if not plan.simulated)
            detail = planning.client.advice_for(planning.planned, closed_form.id)
            assert detail is not None
            planning.select(closed_form.id)
            planning.show_detail(planning.planned, detail)
            shown = next(plan for plan in planning.planned.alternatives if plan.id == closed_form.id)
            assert shown.simulated
            assert planning.detail is detail
            assert shown.candidate == detail.chosen

    asyncio.run(drive())
