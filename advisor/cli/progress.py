"""Progress of long work on stderr: one line that changes on a terminal, one line per step elsewhere."""

import shutil
import sys
from types import TracebackType
from typing import Self, TextIO

from advisor.backends.processes.events import Event, Failed, Log, Progress
from advisor.cli.width import fitted

_CLEAR = "\r\x1b[2K"


class ProgressLines:
    """Prints events and plain sentences on `stream` (default stderr), never on stdout."""

    def __init__(self, *, quiet: bool = False, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.quiet = quiet
        self.live = self.stream.isatty()
        self.drawn = False
        self.last_step = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._clear()

    def __call__(self, event: Event | str) -> None:
        """Print one event; events that only carry data are skipped."""
        if self.quiet:
            return
        if isinstance(event, Progress):
            self._step(event)
        elif isinstance(event, str | Log):
            self._line(event if isinstance(event, str) else event.text)
        elif isinstance(event, Failed):
            self._line(f"failed: {event.message}")

    def _step(self, event: Progress) -> None:
        if self.live:
            text = f"{event.step}  {event.done}/{event.total}" + (f"  about {event.left_s:.0f} s left" if event.left_s is not None else "")
            width = shutil.get_terminal_size().columns - 1
            self.stream.write(_CLEAR + text[:width])
            self.stream.flush()
            self.drawn = True
        elif event.step != self.last_step:
            self._line(event.step)
        self.last_step = event.step

    def _line(self, text: str) -> None:
        self._clear()
        print(fitted(text, self.stream), file=self.stream, flush=True)

    def _clear(self) -> None:
        if self.drawn:
            self.stream.write(_CLEAR)
            self.stream.flush()
            self.drawn = False
