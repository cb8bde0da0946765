"""The screens in a real terminal at three sizes: how they begin, what the table of plans shows, and how wide the reasons are."""

from dataclasses import replace
from pathlib import Path

import pytest

from advisor.tui.form.history import History
from advisor.tui.form.saved_state import SavedState, save_state
from advisor.tui.form.values import FormValues
from tests.tui.test_terminal import LLAMA, SIZES
from tests.tui.tmux import needs_tmux, terminal

pytestmark = [needs_tmux, pytest.mark.slow]
NUMBERS = ("Mem", "TTFT", "TPOT", "tok/s", "dQ", "met")


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_model_and_a_machine_typed_at_once_are_planned_and_every_number_is_shown(tmp_path: Path, size: tuple[int, int]) -> None:
    with terminal(tmp_path, size) as tty:
        tty.wait("Which model do you want to run?", "demo")
        tty.type("meta-llama-3.1-8b")
        tty.wait(LLAMA)
        tty.press("Enter")
        tty.type("4090")
        tty.press("Enter")
        tty.wait("RTX 4090", "rtx-4090", "Devices >", "planned")
        tty.press("Escape", "2", "1", "7")
        tty.wait("Enter: type into a field", "1, assumed", gone="esc Leave")
        tty.press("2", "f")
        screen = tty.wait(*NUMBERS, "p95 ms", "In all of them")
        heads = next(line for line in screen.splitlines() if "TTFT" in line and "TPOT" in line)
        assert [head for head in NUMBERS if head not in heads] == []
        tty.press("3")
        tty.wait("Binding limit", "Enter: changes, w: require or forbid")
        lines = tty.screen().splitlines()
        if size[0] < 100:
            assert max(len(line.rstrip("┃│ ")) for line in lines[2:-4]) > size[0] - 12
        tty.press("C-q")
        assert tty.left() == 0


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_last_session_is_named_in_one_line_and_a_key_clears_it(tmp_path: Path, size: tuple[int, int]) -> None:
    values = FormValues({"model": LLAMA, "hardware": "rtx-4090", "tpot_ms": "30", "memory_gib": "20"})
    save_state(replace(SavedState(), history=History(values)), tmp_path / "state" / "advisor" / "session.json")
    with terminal(tmp_path, size) as tty:
        tty.wait("From the last session: Machine rtx-4090", "^n clears all")
        tty.press("C-n")
        tty.wait("no model yet", gone="From the last session")
        tty.press("Escape")
        tty.wait("no model yet", "Machine this one", gone="rtx-4090")


def test_without_a_model_every_panel_says_what_to_do(tmp_path: Path) -> None:
    with terminal(tmp_path) as tty:
        tty.wait("Which model do you want to run?")
        tty.press("Escape")
        tty.wait("The plans for a model are listed here.", "Each plan becomes a point", "press 0 for a list")
