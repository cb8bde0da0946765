"""Keys in the order in which they were pressed: the next one is taken up when the last one has done all that it does.

Textual forwards each key to what has the focus at that moment, and acts on one that no widget takes only when it has gone all the way
back up: `24`, Tab, `350` typed faster than the screen is drawn would all stand in the first field. What is pasted waits its turn too.
"""

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from textual.app import App
from textual.dom import DOMNode
from textual.events import Event, Key, Paste
from textual.screen import Screen

if TYPE_CHECKING:
    _Base = App[Any]
else:
    _Base = object

PATIENCE_S = 1.0
"""After so long the next key is taken up whatever became of the last one: its widget may be gone."""
_WALKS = {"enter": 3}
"""How often to go up from the widget to the app until a key's last message is through: a field passes its Enter on twice."""


class KeyQueue(_Base):
    """Holds keys and what is pasted back while one of them is on its way."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._held: deque[Key | Paste] = deque()
        self._on_its_way: Key | Paste | None = None

    async def on_event(self, event: Event) -> None:
        """Take a key up, or hold it back; all else as ever."""
        if not isinstance(event, Key | Paste) or event.is_forwarded:
            await super().on_event(event)
        elif self._on_its_way is not None:
            self._held.append(event)
        else:
            await self._take_up(event)

    async def _take_up(self, event: Key | Paste) -> None:
        self._on_its_way = event
        self.set_timer(PATIENCE_S, partial(self._done, event))
        target, screen = self.focused or self.screen, self.screen
        await super().on_event(event)
        self._follow(event, screen, target, _WALKS.get(event.key, 1) if isinstance(event, Key) else 1)

    def _follow(self, event: Key | Paste, screen: Screen[Any], target: DOMNode, walks: int) -> None:
        """Queue up behind the key in each widget on its way, so as to come out behind it."""

        async def up(node: DOMNode) -> None:
            parent = node.parent
            if node is not self and parent is not None and parent.call_later(up, parent):
                return
            if walks > 1:
                self._follow(event, screen, target, walks - 1)
            elif self.screen is not screen:
                self.screen.call_after_refresh(self.call_later, self._done, event)  # the new screen has its focus by then
            else:
                self.call_later(self._done, event)

        if not target.call_later(up, target):
            self.call_later(self._done, event)

    async def _done(self, event: Key | Paste) -> None:
        if self._on_its_way is not event:
            return
        self._on_its_way = None
        if self._held:
            await self._take_up(self._held.popleft())
