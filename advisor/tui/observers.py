"""Callbacks that follow a value of a controller."""

from collections.abc import Callable

from textual.message_pump import MessagePump


class Observers:
    """Callbacks of screens, called in the order of their subscription. Those of a screen that was closed are dropped."""

    def __init__(self) -> None:
        self._callbacks: list[tuple[MessagePump, Callable[[], None]]] = []

    def subscribe(self, node: MessagePump, callback: Callable[[], None]) -> None:
        """Call `callback` after each change for as long as `node` is running."""
        self._callbacks.append((node, callback))

    def notify(self) -> None:
        """Call every callback, in the thread of the app."""
        self._callbacks = [(node, callback) for node, callback in self._callbacks if node.is_running]
        for _, callback in tuple(self._callbacks):
            callback()
