"""Every key of the terminal interface with its id, and the user's keymap file. Digits and letters are keys outside text fields only."""

import os
from pathlib import Path

from textual.binding import Binding

from advisor.profiles.errors import AdvisorError, ExitCode

WORDS = {
    "help": "Help: every key of this screen",
    "quit": "Quit; the state is saved",
    "leave": "Leave the field: letters are keys",
    "view.limits": "Go to the limits",
    "view.plans": "Go to the table of plans",
    "view.why": "Go to the reasons",
    "view.plot": "Go to the plot",
    "plan.save": "Save the selected plan",
    "plan.apply": "Apply the selected plan here",
    "view.compare": "Compare plans, or with measured",
    "plans.relax": "Relax: which limit to move",
    "machine.profile": "Profile: measure this machine",
    "why.force": "Require or forbid a technique",
    "why.take": "Changes that admit or move it",
    "limits.undo": "Undo the last change",
    "limits.redo": "Redo what was undone",
    "plan.mark": "Mark a plan to compare",
    "plans.sort": "Sort by the next number",
    "plans.filter": "Filter: frontier, feasible, all",
    "find": "Find a plan or a reason by a word",
    "plot.left": "Faster plan on the frontier",
    "plot.right": "Next plan on the frontier",
    "machine.choose": "Choose the machine to plan for",
    "plan.open": "Open a plan file",
    "view.start": "Choose another model",
    "question.clear": "Clear the whole question",
    "start.back": "Back to the plan",
    "work.cancel": "Cancel this work",
    "work.again": "Resume at what is unfinished",
    "work.compare": "Compare predicted with measured",
    "compare.refit": "Refit the predictions to this run",
    "compare.runs": "Choose another run",
    "modal.back": "Go back",
}
"""Id of each key, with what it does: for the help page and the command palette."""


def _key(keys: str, action: str, id: str, footer: str = "", *, display: str | None = None) -> Binding:
    """A key; `footer` is its word in the footer, empty for none."""
    return Binding(keys, action, footer or WORDS[id], show=bool(footer), key_display=display or keys.split(",")[0], id=id)


APP_KEYS = [
    Binding("question_mark,f1", "help", "Help", key_display="?", priority=True, id="help"),
    Binding("ctrl+q", "quit", "Quit", show=False, priority=True, id="quit"),
]
CLEAR_KEY = _key("ctrl+n", "clear", "question.clear", display="^n")
PLAN_KEYS = [
    _key("escape", "leave", "leave", "Leave, then:", display="esc"),
    _key("1,f2", "panel('limits')", "view.limits", "Limits"),
    _key("2,f3", "panel('plans')", "view.plans", "Plans"),
    _key("3,f4", "panel('why')", "view.why", "Why"),
    _key("4,f7", "panel('plot')", "view.plot", "Plot"),
    _key("e,f8", "save", "plan.save", "Save"),
    _key("a,f6", "app.apply", "plan.apply", "Apply"),
    _key("c", "compare", "view.compare", "Compare"),
    _key("r", "relax", "plans.relax", "Relax"),
    _key("p,f5", "app.profile", "machine.profile", "Profile"),
    _key("w", "force", "why.force"),
    _key("u", "undo", "limits.undo"),
    _key("ctrl+r", "redo", "limits.redo", display="^r"),
    _key("space", "mark", "plan.mark"),
    _key("s", "sort", "plans.sort"),
    _key("f", "filter", "plans.filter"),
    _key("slash", "find", "find", display="/"),
    _key("left,h", "step(-1)", "plot.left"),
    _key("right,l", "step(1)", "plot.right"),
    _key("m", "machine", "machine.choose"),
    _key("o", "open", "plan.open"),
    _key("0", "start", "view.start"),
    CLEAR_KEY,
]
WHY_KEYS = [_key("enter", "take", "why.take")]
START_KEYS = [_key("escape", "plan", "start.back", "Back to the plan", display="esc"), CLEAR_KEY]
WORK_KEYS = [
    _key("ctrl+x", "cancel", "work.cancel", display="^x"),
    _key("r", "again", "work.again"),
    _key("c", "compare", "work.compare"),
]
COMPARE_KEYS = [_key("f", "refit", "compare.refit"), _key("o", "runs", "compare.runs")]
MODAL_KEYS = [_key("escape", "dismiss", "modal.back", display="esc")]


def keymap_file() -> Path:
    """The user's keymap, `$XDG_CONFIG_HOME/advisor/keymap.yaml`: a mapping of ids to keys."""
    config = os.environ.get("XDG_CONFIG_HOME")
    return (Path(config) if config else Path.home() / ".config") / "advisor" / "keymap.yaml"


def load_keymap(path: Path) -> dict[str, str]:
    """The user's keys by id; empty where there is no file. Raises `AdvisorError` `bad-keymap`, and as `read_yaml` does."""
    if not path.is_file():
        return {}
    from advisor.profiles.files import read_yaml  # only a keymap file needs it

    record = read_yaml(path, what="keymap")
    if not isinstance(record, dict) or not all(isinstance(keys, str | int) for keys in record.values()):
        raise _bad_keymap(f"{path} is not a mapping of ids to keys", path)
    if unknown := [str(id) for id in record if id not in WORDS]:
        raise _bad_keymap(f"{path} names an unknown key `{unknown[0]}`", path)
    return {str(id): str(keys) for id, keys in record.items()}


def _bad_keymap(message: str, path: Path) -> AdvisorError:
    choose = f"choose from {', '.join(sorted(WORDS))}"
    return AdvisorError("bad-keymap", message, exit_code=ExitCode.USAGE, help=(choose,), file=str(path))
