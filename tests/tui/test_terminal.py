"""The real program in a real terminal, as a new user drives it: from the choice of a model to a saved plan, and out again."""

import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from advisor.profiles.errors import ExitCode
from advisor.tui.form.saved_state import SavedState, load_state
from tests.paths import ROOT
from tests.tui.tmux import Terminal, needs_tmux, terminal

pytestmark = needs_tmux
SIZES = (pytest.param((80, 24), marks=pytest.mark.slow), (120, 40), pytest.param((200, 50), marks=pytest.mark.slow))
LLAMA = "meta-llama/Meta-Llama-3.1-8B"


def _choose(held: Terminal) -> None:
    """The start screen says what to type; the footer of the form how to leave a field."""
    held.wait("Which model do you want to run?", "demo")
    held.type("meta-llama-3.1-8b")
    held.wait(LLAMA, gone="demo")
    held.press("Enter")
    held.wait("1 Limits", "esc Leave, then:", "No limits were asked")


def _plan_under_limits(held: Terminal) -> None:
    """Machine, then the three limits: Tab goes from one field to the next, and a mark stands before it."""
    held.wait("Machine >")
    held.type("rtx-4090")
    held.wait("RTX 4090")
    for label, text in {"TTFT max, ms": "0.5s", "TPOT max, ms": "30", "Memory max, GiB": "20GiB"}.items():
        _go_to(held, label)
        held.type(text)
        held.wait(f"{label} >{text}")
    held.wait("Meets all limits", "the binding one is")


def _go_to(held: Terminal, label: str, key: str = "Tab") -> None:
    """Press the key until the mark stands there."""
    for _ in range(20):
        before = _marked(held)
        if before == label:
            return
        held.press(key)
        held.until(partial(_moved, held, before))
    raise AssertionError(f"{label} was never reached:\n{held.screen()}")


def _moved(held: Terminal, before: str) -> bool:
    return _marked(held) not in ("", before)


def _marked(held: Terminal) -> str:
    """The label of the field that is typed into."""
    found = re.search(r"[┃│|] (\S.{20})>", held.screen())
    return found.group(1).strip() if found else ""


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_new_user_plans_relaxes_forces_compares_and_saves(tmp_path: Path, size: tuple[int, int]) -> None:
    with terminal(tmp_path, size) as held:
        _choose(held)
        _plan_under_limits(held)

        _go_to(held, "TPOT max, ms", "BTab")
        held.press("End", "BSpace", "BSpace")
        held.wait("TPOT max, ms >no limit")
        held.type("1")
        held.wait("TPOT max, ms >1", "No plan meets every limit", "r shows which limit to move.")
        held.press("Escape")
        held.wait("1 Limits", gone="esc Leave")
        held.press("r")
        held.wait("To get a plan, change one of these", "Enter makes the change")
        held.press("Enter")
        held.wait("Meets all limits", "planned", gone="To get a plan")

        held.press("w")
        held.wait("What if: techniques", "weights-int4", "Enter")
        held.press("Down", "Down", "Down", "Enter")
        held.wait("weights-int4 is forbidden", gone="What if: techniques")
        held.wait("weights-int4 is forbidden (u undoes this).")

        held.press("2")
        held.wait("No plan meets every limit", "planned", gone="planning")
        for marks in (1, 2):
            held.press("Space")
            held.until(partial(_plans_marked, held, marks), f"{marks} marks")
            held.press("Down")
        held.press("c")
        held.wait("Two plans", "first", "second")
        held.press("Escape")
        held.wait("2 Plans", gone="Two plans")
        held.press("Up", "Up", "Up")
        held.until(lambda: _saved(tmp_path).selected is None, "the cursor back on the best plan")

        held.press("e")
        held.wait("Save the plan", "Enter saves")
        held.press("Enter")
        held.wait("saved plan.yaml")
        held.press("C-q")
        assert held.left() == 0
        asked = _saved_question(tmp_path)
    env = os.environ | {"PYTHONPATH": str(ROOT), "SOURCE_DATE_EPOCH": "1700000000", "XDG_DATA_HOME": str(tmp_path / "data")}
    words = ["plan", *asked, "--offline", "-o", "cli.yaml", "--quiet"]
    done = subprocess.run([sys.executable, "-m", "advisor", *words], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode in (ExitCode.OK, ExitCode.NO_PLAN), done.stderr
    assert (tmp_path / "plan.yaml").read_bytes() == (tmp_path / "cli.yaml").read_bytes()


def _plans_marked(held: Terminal, marks: int) -> bool:
    return len(_saved(held.folder).marked) == marks


def _saved(folder: Path) -> SavedState:
    state = load_state(folder / "state" / "advisor" / "session.json")
    assert state is not None
    return state


def _saved_question(folder: Path) -> tuple[str, ...]:
    """The words of the command line for what was asked when the session ended."""
    state = _saved(folder)
    assert state.values.text("hardware") == "rtx-4090"
    assert state.values.forbid == ("weights-int4",)
    return state.values.words()


def test_leaving_restores_the_terminal(tmp_path: Path) -> None:
    with terminal(tmp_path) as held:
        held.wait("Which model do you want to run?")
        held.press("C-q")
        assert held.left() == 0
        held.wait(gone="Which model")
        assert held._tmux("display", "-p", "#{cursor_flag} #{alternate_on}").split() == ["1", "0"]


def test_ctrl_c_says_which_key_leaves(tmp_path: Path) -> None:
    with terminal(tmp_path) as held:
        held.wait("Which model do you want to run?")
        held.press("Tab", "C-c")
        held.wait("ctrl+q")
        assert not (tmp_path / "rc").exists()


def test_a_question_mark_helps_also_where_a_field_owns_the_letters(tmp_path: Path) -> None:
    with terminal(tmp_path, (80, 24)) as held:
        held.wait("Which model do you want to run?")
        held.type("?")
        held.wait("Help", "start.back")
        held.press("Escape")
        held.wait("Which model do you want to run?", gone="start.back")


def test_on_a_linux_console_without_colour_and_in_the_c_locale_it_draws(tmp_path: Path) -> None:
    with terminal(tmp_path, TERM="linux", NO_COLOR="1", LC_ALL="C") as held:
        _choose(held)
        coloured = [code for code in held.escapes().split("\x1b[")[1:] if code.split("m")[0].split(";")[0] in ("38", "48")]
        assert coloured == []
        assert "\\u" not in held.screen()


def test_where_the_encoding_is_ascii_nothing_else_is_drawn(tmp_path: Path) -> None:
    with terminal(tmp_path, (80, 24), LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0") as held:
        _choose(held)
        assert held.screen().isascii()


def test_a_window_that_is_dragged_keeps_the_plan(tmp_path: Path) -> None:
    with terminal(tmp_path, (80, 24)) as held:
        _choose(held)
        held.resize(120, 40)
        held.wait("1 Limits", "2 Plans", "3 Why", "4 Plot", "Binding limit")
        held.resize(50, 14)
        held.wait("This needs 60 columns and 16 rows.")
        held.resize(80, 24)
        held.wait("1 Limits", gone="This needs")


def test_without_a_terminal_it_refuses_and_says_what_to_type(tmp_path: Path) -> None:
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "advisor"], cwd=tmp_path, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")
    assert "help: advisor plan MODEL" in done.stderr
