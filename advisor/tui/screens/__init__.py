"""The screens of the session. To add one: write its file, name it here, and give it a key in `keys.py`."""

from collections.abc import Callable
from typing import Any

from textual.screen import Screen

from advisor.tui.screens.plan import PlanScreen
from advisor.tui.screens.start import StartScreen

MODES: dict[str, str | Callable[[], Screen[Any]]] = {"start": StartScreen, "plan": PlanScreen}
"""The map of the session. What stands over a screen (help, lists, a file's name) is pushed by the screen itself."""
