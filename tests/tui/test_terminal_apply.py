"""The shipped model in a real terminal: planned for this machine, applied, cancelled half-way, resumed, compared; nothing stays."""

from pathlib import Path

import pytest

from tests.tui.test_terminal import _go_to
from tests.tui.tmux import Terminal, needs_tmux, terminal

pytestmark = needs_tmux
APPLIED_WITHIN_S = 240.0


def workers_of(folder: Path) -> list[str]:
    """Command lines of processes that work in the app's folder."""
    lines = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().decode().split("\0")
            settings = (entry / "environ").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if "advisor.backends.worker" in words and str(folder) in settings:
            lines.append(" ".join(words))
    return lines


def _plan_the_demo(tty: Terminal) -> None:
    tty.wait("Which model do you want to run?", "demo")
    tty.press("Enter")
    tty.wait("1 Limits", "No limits were set")
    for label, text in {"Context, tokens": "256", "Output, tokens": "32"}.items():
        _go_to(tty, label)
        tty.type(text)
        tty.wait(f"{label} >{text}")
    tty.wait("planned", gone="planning")
    tty.press("Escape")
    tty.wait("1 Limits", gone="esc Leave")


def _apply(tty: Terminal) -> None:
    tty.press("a")
    tty.wait("to this machine", "+ start", "+ write", "undo", "Cancel")
    tty.press("Down", "Enter")
    tty.wait("Esc leaves it running, ctrl+x cancels; finished rungs are saved.")


@pytest.mark.slow
@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 50)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_the_shipped_model_is_applied_cancelled_resumed_and_compared(tmp_path: Path, size: tuple[int, int]) -> None:
    with terminal(tmp_path, size) as tty:
        _plan_the_demo(tty)
        _apply(tty)
        tty.until(lambda: "● " in tty.screen() and workers_of(tmp_path) != [], "a rung that runs")
        tty.until(lambda: "repeat" in tty.screen() or "quality" in tty.screen(), "a rung that is measured")
        tty.press("C-x")
        tty.wait("cancelled", "Esc closes.")
        assert workers_of(tmp_path) == [], "nothing is left running"

        tty.press("r")
        tty.until(lambda: "apply done" in tty.screen(), "the end of the run", within_s=APPLIED_WITHIN_S)
        tty.press("c")
        tty.wait("Predicted against measured", "error", "within")
        tty.press("Escape")
        tty.press("C-q")
        assert tty.left() == 0
        assert workers_of(tmp_path) == []
    runs = sorted((tmp_path / "state" / "advisor" / "runs").iterdir())
    assert len(runs) == 1
    assert {"run.json", "report.html", "plan.yaml"} <= {path.name for path in runs[0].iterdir()}
