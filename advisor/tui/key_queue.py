"""A queue of key presses: a key is handled after the previous one has had all of its effects.

Textual forwards a key to the widget that has the focus at that moment, and runs a key binding only after the key has bubbled from
that widget to the app. With `24`, Tab, `350` typed faster than a frame, all digits would reach the first field. Pasted text is queued too.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from textual.app import App
from textual.dom import DOMNode
from textual.events import Event, Key, Paste
from textual.screen import Screen

from advisor.tui.escaped_keys import as_pressed

TIMEOUT_S = 1.0
"""Longest wait for the effects of a key while the app is idle: its widget may have been removed."""
_CHECKS = 10
"""Checks within `TIMEOUT_S`. An app that is too busy to check has not lost the key: it has not come to it yet."""
_BUBBLES = {"enter": 3}
"""Times that a message bubbles from the widget to the app before a key is done: a field posts two further messages for Enter."""


class KeyQueue:
    """Holds back keys and pasted text while one of them is being handled."""

    def __init__(self, app: App[Any], handle: Callable[[Event], Awaitable[None]]) -> None:
        self._app = app
        self._handle = handle
        self._queue: deque[Key | Paste] = deque()
        self._current: Key | Paste | None = None

    async def on_event(self, event: Event) -> None:
        """Handle an event now, or queue it where it is a key or pasted text and another one is being handled."""
        if not isinstance(event, Key | Paste) or event.is_forwarded:
            await self._handle(event)
        else:
            self._queue.extend(as_pressed(event) if isinstance(event, Key) else (event,))
            if self._current is None:
                await self._begin(self._queue.popleft())

    async def _begin(self, event: Key | Paste) -> None:
        app = self._app
        self._current = event
        self._follow_up(event, _CHECKS)
        target, screen = app.focused or app.screen, app.screen
        await self._handle(event)
        self._follow(event, screen, target, _BUBBLES.get(event.key, 1) if isinstance(event, Key) else 1)

    def _follow_up(self, event: Key | Paste, checks: int) -> None:
        """End the wait for a key after a number of checks, one after the other."""

        async def check() -> None:
            if self._current is not event:
                return
            if checks > 1:
                self._follow_up(event, checks - 1)
            else:
                await self._done(event)

        self._app.set_timer(TIMEOUT_S / _CHECKS, check)

    def _follow(self, event: Key | Paste, screen: Screen[Any], target: DOMNode, bubbles: int) -> None:
        """Bubble a callback behind the key, from its widget to the app."""
        app = self._app

        async def up(node: DOMNode) -> None:
            parent = node.parent
            if node is not app and parent is not None and parent.call_later(up, parent):
                return
            if bubbles > 1:
                self._follow(event, screen, target, bubbles - 1)
            elif app.screen is not screen:
                app.screen.call_after_refresh(app.call_later, self._done, event)  # the new screen has its focus by then
            else:
                app.call_later(self._done, event)

        if not target.call_later(up, target):
            app.call_later(self._done, event)

    async def _done(self, event: Key | Paste) -> None:
        if self._current is not event:
            return
        self._current = None
        if self._queue:
            await self._begin(self._queue.popleft())
