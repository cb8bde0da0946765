"""Every key of the session, each with an id, and the user's own keymap file. Digits and letters act outside text fields only."""

import os
from pathlib import Path

from textual.binding import Binding

from advisor.profiles.errors import AdvisorError, ExitCode


def _key(keys: str, action: str, label: str, id: str, *, show: bool = True, display: str | None = None) -> Binding:
    return Binding(keys, action, label, show=show, key_display=display or keys.split(",")[0], id=id)


APP_KEYS = [
    Binding("question_mark,f1", "help", "Help", key_display="?", priority=True, id="help"),
    Binding("ctrl+q", "quit", "Quit", show=False, priority=True, id="quit"),
]
PLAN_KEYS = [
    _key("escape", "leave", "Leave, then:", "leave", display="esc"),
    _key("1,f2", "panel('limits')", "Limits", "view.limits"),
    _key("2,f3", "panel('plans')", "Plans", "view.plans"),
    _key("3,f4", "panel('why')", "Why", "view.why"),
    _key("4,f7", "panel('plot')", "Plot", "view.plot"),
    _key("e,f8", "save", "Save", "plan.save"),
    _key("a,f6", "app.apply", "Apply", "plan.apply"),
    _key("c", "compare", "Compare", "view.compare"),
    _key("r", "relax", "Relax", "plans.relax"),
    _key("p,f5", "app.profile", "Profile", "machine.profile"),
    _key("w", "force", "What if", "why.force", show=False),
    _key("u", "undo", "Undo", "limits.undo", show=False),
    _key("ctrl+r", "redo", "Redo", "limits.redo", show=False, display="^r"),
    _key("space", "mark", "Mark a plan to compare", "plan.mark", show=False),
    _key("s", "sort", "Sort", "plans.sort", show=False),
    _key("f", "filter", "Filter", "plans.filter", show=False),
    _key("slash", "find", "Find in plans or reasons", "find", show=False, display="/"),
    _key("left,h", "step(-1)", "Faster plan on the frontier", "plot.left", show=False),
    _key("right,l", "step(1)", "Next plan on the frontier", "plot.right", show=False),
    _key("m", "machine", "Machine", "machine.choose", show=False),
    _key("o", "open", "Open a plan file", "plan.open", show=False),
    _key("0", "start", "Choose a model", "view.start", show=False),
]
START_KEYS = [_key("escape", "plan", "Back to the plan", "start.back", display="esc")]
WORK_KEYS = [
    _key("ctrl+x", "cancel", "Cancel", "work.cancel", display="^x"),
    _key("r", "again", "Go on from what is finished", "work.again"),
    _key("c", "compare", "Predicted against measured", "work.compare"),
]
COMPARE_KEYS = [
    _key("f", "refit", "Refit", "compare.refit"),
    _key("o", "runs", "Other run", "compare.runs"),
]
MODAL_KEYS = [_key("escape", "dismiss", "Back", "modal.back", display="esc")]

WORDS = {
    "help": "Help: every key of this screen",
    "quit": "Quit; the session is kept",
    "view.limits": "Go to the limits",
    "view.plans": "Go to the table of plans",
    "view.why": "Go to the reasons",
    "view.plot": "Go to the plot",
    "plan.save": "Save the selected plan",
    "plan.apply": "Apply the selected plan here",
    "view.compare": "Compare plans, or with measured",
    "plans.relax": "Relax: which limit to move",
    "machine.profile": "Profile: measure this machine",
    "why.force": "What if: a technique in or out",
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
    "start.back": "Back to the plan",
    "work.cancel": "Cancel this work",
    "work.compare": "Compare predicted with measured",
    "compare.refit": "Refit the predictions to this run",
    "compare.runs": "Choose another run",
}
"""What each key does, in the help page and in the palette; the footer has room for a word."""


def keymap_file() -> Path:
    """Where a user's own keys are: `$XDG_CONFIG_HOME/advisor/keymap.yaml`, ids to keys."""
    config = os.environ.get("XDG_CONFIG_HOME")
    return (Path(config) if config else Path.home() / ".config") / "advisor" / "keymap.yaml"


def load_keymap(path: Path) -> dict[str, str]:
    """The user's keys by id; none where there is no file. Raises `AdvisorError` `bad-keymap`, and what `read_yaml` raises."""
    if not path.is_file():
        return {}
    from advisor.profiles.files import read_yaml  # only a keymap file needs it

    record = read_yaml(path, what="keymap")
    known = {key.id for keys in (APP_KEYS, PLAN_KEYS, START_KEYS, MODAL_KEYS, WORK_KEYS, COMPARE_KEYS) for key in keys if key.id}
    if not isinstance(record, dict) or not all(isinstance(keys, str | int) for keys in record.values()):
        raise _bad_keymap(f"{path} is no mapping of ids to keys", path, known)
    if unknown := [str(id) for id in record if id not in known]:
        raise _bad_keymap(f"{path} names an unknown key `{unknown[0]}`", path, known)
    return {str(id): str(keys) for id, keys in record.items()}


def _bad_keymap(message: str, path: Path, known: set[str]) -> AdvisorError:
    choose = f"choose from {', '.join(sorted(known))}"
    return AdvisorError("bad-keymap", message, exit_code=ExitCode.USAGE, help=(choose,), file=str(path))
