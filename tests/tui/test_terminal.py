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


def _choose(tty: Terminal) -> None:
    """The start screen says what to type; the footer of the form how to leave a field."""
    tty.wait("Which model do you want to run?", "demo")
    tty.type("meta-llama-3.1-8b")
    tty.wait(LLAMA, gone="demo")
    tty.press("Enter")
    tty.wait("1 Limits", "esc Leave, then:", "No limits were set")


def _plan_under_limits(tty: Terminal) -> None:
    """Machine, then the three limits: Tab goes from one field to the next, and a mark stands before it."""
    tty.wait("Machine >")
    tty.type("rtx-4090")
    tty.wait("RTX 4090")
    for label, text in {"TTFT max, ms": "0.5s", "TPOT max, ms": "30", "Memory max, GiB": "20GiB"}.items():
        _go_to(tty, label)
        tty.type(text)
        tty.wait(f"{label} >{text}")
    tty.wait("Meets all limits", "the binding one is")


def _go_to(tty: Terminal, label: str, key: str = "Tab") -> None:
    """Press the key until the mark stands there."""
    for _ in range(20):
        before = _marked(tty)
        if before == label:
            return
        tty.press(key)
        tty.until(partial(_moved, tty, before))
    raise AssertionError(f"{label} was never reached:\n{tty.screen()}")


def _moved(tty: Terminal, before: str) -> bool:
    return _marked(tty) not in ("", before)


def _marked(tty: Terminal) -> str:
    """The label of the field that is typed into."""
    match = re.search(r"[┃│|] (\S.{20})>", tty.screen())
    return match.group(1).strip() if match else ""


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_new_user_plans_relaxes_forces_compares_and_saves(tmp_path: Path, size: tuple[int, int]) -> None:
    with terminal(tmp_path, size) as tty:
        _choose(tty)
        _plan_under_limits(tty)

        _go_to(tty, "TPOT max, ms", "BTab")
        tty.press("End", "BSpace", "BSpace")
        tty.wait("TPOT max, ms >no limit")
        tty.type("1")
        tty.wait("TPOT max, ms >1", "No plan meets every limit", "r shows which limit to move.")
        tty.press("Escape")
        tty.wait("1 Limits", gone="esc Leave")
        tty.press("r")
        tty.wait("To get a plan, change one of these", "Enter makes the change")
        tty.press("Enter")
        tty.wait("Meets all limits", "planned", gone="To get a plan")

        tty.press("w")
        tty.wait("What if: techniques", "weights-int4", "Enter")
        tty.press(*["Down"] * 6, "Enter")
        tty.wait("weights-int4 is required", gone="What if: techniques")
        tty.wait("weights-int4 is required (u undoes this).")

        tty.press("2")
        tty.wait("Meets all limits", "planned", gone="planning")
        for marks in (1, 2):
            tty.press("Space")
            tty.until(partial(_plans_marked, tty, marks), f"{marks} marks")
            tty.press("Down")
        tty.press("c")
        tty.wait("Two plans", "first", "second")
        tty.press("Escape")
        tty.wait("2 Plans", gone="Two plans")
        tty.press("Up", "Up", "Up")
        tty.until(lambda: _saved(tmp_path).selected is None, "the cursor back on the best plan")

        tty.press("e")
        tty.wait("Save the plan", "Enter saves")
        tty.press("Enter")
        tty.wait("saved plan.yaml")
        tty.press("C-q")
        assert tty.left() == 0
        question = _saved_question(tmp_path)
    env = os.environ | {"PYTHONPATH": str(ROOT), "SOURCE_DATE_EPOCH": "1700000000", "XDG_DATA_HOME": str(tmp_path / "data")}
    words = ["plan", *question, "--offline", "-o", "cli.yaml", "--quiet"]
    done = subprocess.run([sys.executable, "-m", "advisor", *words], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode in (ExitCode.OK, ExitCode.NO_PLAN), done.stderr
    assert (tmp_path / "plan.yaml").read_bytes() == (tmp_path / "cli.yaml").read_bytes()


def _plans_marked(tty: Terminal, marks: int) -> bool:
    return len(_saved(tty.folder).marked) == marks


def _saved(folder: Path) -> SavedState:
    state = load_state(folder / "state" / "advisor" / "session.json")
    assert state is not None
    return state


def _saved_question(folder: Path) -> tuple[str, ...]:
    """The words of the command line for what was asked when the app ended."""
    state = _saved(folder)
    assert state.values.text("hardware") == "rtx-4090"
    assert state.values.require == ("weights-int4",)
    return state.values.words()


def test_leaving_restores_the_terminal(tmp_path: Path) -> None:
    with terminal(tmp_path) as tty:
        tty.wait("Which model do you want to run?")
        tty.press("C-q")
        assert tty.left() == 0
        tty.wait(gone="Which model")
        assert tty._tmux("display", "-p", "#{cursor_flag} #{alternate_on}").split() == ["1", "0"]


def test_ctrl_c_says_which_key_leaves(tmp_path: Path) -> None:
    with terminal(tmp_path) as tty:
        tty.wait("Which model do you want to run?")
        tty.press("Tab", "C-c")
        tty.wait("ctrl+q")
        assert not (tmp_path / "rc").exists()


def test_a_question_mark_helps_also_where_a_field_owns_the_letters(tmp_path: Path) -> None:
    with terminal(tmp_path, (80, 24)) as tty:
        tty.wait("Which model do you want to run?")
        tty.type("?")
        tty.wait("Help", "start.back")
        tty.press("Escape")
        tty.wait("Which model do you want to run?", gone="start.back")


def test_on_a_linux_console_without_colour_and_in_the_c_locale_it_draws(tmp_path: Path) -> None:
    with terminal(tmp_path, TERM="linux", NO_COLOR="1", LC_ALL="C") as tty:
        _choose(tty)
        coloured = [code for code in tty.escapes().split("\x1b[")[1:] if code.split("m")[0].split(";")[0] in ("38", "48")]
        assert coloured == []
        assert "\\u" not in tty.screen()


def test_where_the_encoding_is_ascii_nothing_else_is_drawn(tmp_path: Path) -> None:
    with terminal(tmp_path, (80, 24), LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0") as tty:
        _choose(tty)
        assert tty.screen().isascii()


def test_a_window_that_is_dragged_keeps_the_plan(tmp_path: Path) -> None:
    with terminal(tmp_path, (80, 24)) as tty:
        _choose(tty)
        tty.resize(120, 40)
        tty.wait("1 Limits", "2 Plans", "3 Why", "4 Plot", "Binding limit")
        tty.resize(50, 14)
        tty.wait("This needs 60 columns and 16 rows.")
        tty.resize(80, 24)
        tty.wait("1 Limits", gone="This needs")


def test_without_a_terminal_it_refuses_and_says_what_to_type(tmp_path: Path) -> None:
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "advisor"], cwd=tmp_path, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")
    assert "help: advisor plan MODEL" in done.stderr
