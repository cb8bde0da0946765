"""Every text of the terminal interface can be read in both themes: 4.5 to 1 against its ground, as WCAG 2 asks of texts of this size."""

import asyncio

import pytest
from rich.color_triplet import ColorTriplet
from rich.style import Style
from rich.text import Text
from textual.theme import Theme
from textual.widgets import Static

from advisor.tui.app import AdvisorApp
from advisor.tui.palette import PALETTES
from advisor.tui.screens.plan import PlanScreen
from advisor.tui.themes import THEMES, use_theme
from tests.tui.canned import QUESTION, CannedClient
from tests.tui.driving import SHARED_APP, settled, shared_app
from tests.tui.test_frames import segments, shown

LEAST = 4.5
READ = ("start-80", "limits-80", "plans-80", "why-80-read", "plan-120", "nothing-fits-120", "wrong-value-120")
DRAWN = "▁▂▃▄▅▆▇█╭╮╰╯─│┏┓┗┛━┃"
"""Borders and scroll bars: no text."""


def contrast(first: ColorTriplet, second: ColorTriplet) -> float:
    """From 1, the same, to 21, black on white."""
    dark, light = sorted((_luminance(first), _luminance(second)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(color: ColorTriplet) -> float:
    shares = [channel / 255 for channel in color]
    red, green, blue = (share / 12.92 if share <= 0.03928 else ((share + 0.055) / 1.055) ** 2.4 for share in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
def test_every_tone_can_be_read_on_every_ground(theme: Theme) -> None:
    colors = theme.to_color_system().generate()
    grounds = {name: colors[name] for name in ("background", "surface", "panel", "block-cursor-blurred-background")}
    for tone in PALETTES["dark" if theme.dark else "light"].values():
        for name, ground in grounds.items():
            style = Style.parse(f"{tone} on {ground}" if "#" in tone else f"{tone} {colors['foreground']} on {ground}")
            assert _of(style) >= LEAST, (tone, name)


@pytest.mark.parametrize(
    ("names", "light"),
    [
        pytest.param(("wrong-value-120",), False, id="dark"),
        pytest.param(READ, False, id="dark, all", marks=pytest.mark.slow),
        pytest.param(READ, True, id="light, all", marks=pytest.mark.slow),
    ],
)
def test_every_text_on_the_screen_can_be_read(names: tuple[str, ...], light: bool) -> None:
    async def drive() -> dict[str, list[tuple[float, str]]]:
        return {name: _faint(app) async for name, app in shown(names, light=light)}

    assert {name: texts for name, texts in asyncio.run(drive()).items() if texts} == {}


def test_a_theme_that_is_changed_elsewhere_holds_for_the_plan_and_for_the_box_over_it() -> None:
    async def drive() -> None:
        async with shared_app(QUESTION, client=CannedClient()) as (app, pilot):
            await pilot.press("escape", "2", "space", "down", "c")
            await settled(pilot)
            use_theme(app, "light")
            await settled(pilot)
            text = app.screen.query_one("#text", Static).content
            assert isinstance(text, Text)
            assert PALETTES["light"]["2"] in {str(span.style).upper() for span in text.spans}
            await pilot.press("escape")
            await settled(pilot)
            assert isinstance(app.screen, PlanScreen)
            assert _faint(app) == []
            await pilot.press("0")
            use_theme(app, "dark")
            await pilot.press("escape")
            await settled(pilot)
            assert isinstance(app.screen, PlanScreen)
            assert _faint(app) == []

    SHARED_APP.run(drive())


def _faint(app: AdvisorApp) -> list[tuple[float, str]]:
    """What cannot be read on the screen, with its contrast."""
    read = [(_of(segment.style), segment.text) for segment in segments(app) if segment.style and segment.text.strip(f" {DRAWN}")]
    return [(ratio, text) for ratio, text in read if ratio < LEAST]


def _of(style: Style) -> float:
    assert style.color is not None
    assert style.bgcolor is not None
    return contrast(style.color.get_truecolor(), style.bgcolor.get_truecolor())
