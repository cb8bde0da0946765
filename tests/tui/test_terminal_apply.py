"""The shipped model in a real terminal: planned for this machine, applied, cancelled half-way, gone on with, compared; nothing stays."""

from pathlib import Path

import pytest

from tests.tui.test_terminal import _go_to
from tests.tui.tmux import Terminal, needs_tmux, terminal

pytestmark = needs_tmux
APPLIED_WITHIN_S = 240.0


def workers_of(folder: Path) -> list[str]:
    """Command lines of processes that work in the session's folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().decode().split("\0")
            settings = (entry / "environ").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if "advisor.backends.worker" in words and str(folder) in settings:
            found.append(" ".join(words))
    return found


def _plan_the_demo(held: Terminal) -> None:
    held.wait("Which model do you want to run?", "demo")
    held.press("Enter")
    held.wait("1 Limits", "No limits were asked")
    for label, text in {"Context, tokens": "256", "Answer, tokens": "32"}.items():
        _go_to(held, label)
        held.type(text)
        held.wait(f"{label} >{text}")
    held.wait("planned", gone="planning")
    held.press("Escape")
    held.wait("1 Limits", gone="esc Leave")


def _apply(held: Terminal) -> None:
    held.press("a")
    held.wait("to this machine", "+ start", "+ write", "undo", "Cancel")
    held.press("Down", "Enter")
    held.wait("Esc leaves it running, ctrl+x cancels; finished rungs are saved.")


@pytest.mark.slow
@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 50)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_the_shipped_model_is_applied_cancelled_gone_on_with_and_compared(tmp_path: Path, size: tuple[int, int]) -> None:
    with terminal(tmp_path, size) as held:
        _plan_the_demo(held)
        _apply(held)
        held.until(lambda: "● " in held.screen() and workers_of(tmp_path) != [], "a rung that runs")
        held.until(lambda: "repeat" in held.screen() or "quality" in held.screen(), "a rung that is measured")
        held.press("C-x")
        held.wait("cancelled", "Esc closes.")
        assert workers_of(tmp_path) == [], "nothing is left running"

        held.press("r")
        held.until(lambda: "apply done" in held.screen(), "the end of the run", within_s=APPLIED_WITHIN_S)
        held.press("c")
        held.wait("Predicted against measured", "error", "within")
        held.press("Escape")
        held.press("C-q")
        assert held.left() == 0
        assert workers_of(tmp_path) == []
    runs = sorted((tmp_path / "state" / "advisor" / "runs").iterdir())
    assert len(runs) == 1
    assert {"run.json", "report.html", "plan.yaml"} <= {path.name for path in runs[0].iterdir()}
