"""The real program in a real terminal: tmux holds it, keys go in, and its screen is read until it says what is waited for."""

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.paths import ROOT

ROOT = ROOT
WAIT_S = 30.0
needs_tmux = pytest.mark.skipif(shutil.which("tmux") is None, reason="no tmux here: a real terminal is needed")


@dataclass
class Terminal:
    """One terminal with one program, on a tmux server of its own."""

    folder: Path
    size: tuple[int, int]
    env: dict[str, str] = field(default_factory=dict)

    def start(self, *arguments: str) -> None:
        """Start the program; what it returns is written when it ends, and the shell behind it stays."""
        width, height = self.size
        program = shlex.join([sys.executable, "-m", "advisor", *arguments])
        own = {f"XDG_{name}_HOME": str(self.folder / name.lower()) for name in ("DATA", "STATE", "CACHE", "CONFIG")}
        own |= {"HF_HOME": str(self.folder / "hf"), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), "SOURCE_DATE_EPOCH": "1700000000"}
        settings = shlex.join([f"{name}={value}" for name, value in (own | self.env).items()])
        line = (
            f"cd {shlex.quote(str(self.folder))}; env -u NO_COLOR -u COLUMNS -u LINES {settings} {program}; echo left with $? > rc; exec sh"
        )
        self._tmux("-f", "/dev/null", "new-session", "-d", "-x", str(width), "-y", str(height), "sh", "-c", line)

    def press(self, *keys: str) -> None:
        """Send keys by tmux's names: `Enter`, `Escape`, `C-q`."""
        self._tmux("send-keys", *keys)

    def type(self, text: str) -> None:
        """Send a text as it is."""
        self._tmux("send-keys", "-l", text)

    def screen(self) -> str:
        """What stands on the screen."""
        return self._tmux("capture-pane", "-p")

    def escapes(self) -> str:
        """The same with its colours."""
        return self._tmux("capture-pane", "-p", "-e")

    def resize(self, width: int, height: int) -> None:
        """Another size, as when a window is dragged: several steps, each a signal to the program."""
        for columns in (width - 2, width - 1, width):
            self._tmux("resize-window", "-x", str(columns), "-y", str(height))
            time.sleep(0.1)

    def wait(self, *wanted: str, gone: str | None = None) -> str:
        """The screen once all of `wanted` stand on it, whatever the line breaks, and `gone` does not. Fails with the screen otherwise."""

        def stands() -> bool:
            flat = _flat(self.screen())
            return all(" ".join(part.split()) in flat for part in wanted) and (gone is None or gone not in flat)

        self.until(stands, f"{wanted} on the screen, {gone!r} gone")
        return self.screen()

    def left(self) -> int:
        """The exit code, once the program has ended."""
        code = self.folder / "rc"
        self.until(lambda: code.is_file() and code.read_text(encoding="utf-8").endswith("\n"), "the program's end")
        return int(code.read_text(encoding="utf-8").split()[-1])

    def until(self, holds: Callable[[], bool], what: str = "a change", *, within_s: float = WAIT_S) -> None:
        """Poll until something holds. Fails with the screen after a deadline."""
        deadline = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < deadline, f"waited in vain for {what}:\n{self.screen()}"
            time.sleep(0.05)

    def end(self) -> None:
        """Let the server go, with all that runs in it."""
        self._tmux("kill-server", check=False)

    def _tmux(self, *words: str, check: bool = True) -> str:
        env = os.environ | {"LC_ALL": "C.UTF-8"}
        done = subprocess.run(["tmux", "-S", str(self.folder / "tmux"), *words], capture_output=True, text=True, env=env, check=False)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout


def _flat(screen: str) -> str:
    """Without borders and line breaks, so that a sentence that was wrapped is found."""
    return " ".join(screen.translate(str.maketrans("┃│", "  ")).split())


@contextlib.contextmanager
def terminal(folder: Path, size: tuple[int, int] = (120, 40), *, arguments: tuple[str, ...] = (), **env: str) -> Iterator[Terminal]:
    """A terminal in which the program was started."""
    tty = Terminal(folder, size, env)
    tty.start(*arguments)
    try:
        yield tty
    finally:
        tty.end()
