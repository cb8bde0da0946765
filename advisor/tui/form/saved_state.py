"""The state of the terminal interface: texts as typed, marks, filter and order; saved to one file and read from it. Imports no Textual."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from advisor.profiles.errors import AdvisorError, ExitCode
from advisor.profiles.files import is_file, read_text, write_whole
from advisor.profiles.json_text import parse_json
from advisor.running.folders import state_folder
from advisor.tui.form.fields import BY_NAME
from advisor.tui.form.history import MOST_STEPS, History
from advisor.tui.form.values import FormValues

FORMAT = "1.0"
FILTERS = ("frontier", "feasible", "all")
SORTS = ("rank", "memory", "TTFT", "TPOT", "throughput", "quality")
MOST_MARKED = 2


@dataclass(frozen=True, slots=True)
class SavedState:
    """What is saved at each change, and restored at the next start."""

    history: History = field(default_factory=History)
    selected: str | None = None
    """Id of the selected plan; `None`: the best one."""
    marked: tuple[str, ...] = ()
    """Ids of plans to compare, at most two, the first marked first."""
    filter: str = "frontier"
    sort: str = "rank"

    def cleared(self) -> "SavedState":
        """Nothing asked, marked, filtered or sorted; undo gives the question back."""
        return SavedState(self.history.changed(FormValues()))

    @property
    def values(self) -> FormValues:
        """The present question."""
        return self.history.present


def with_mark(marked: tuple[str, ...], plan: str) -> tuple[str, ...]:
    """The marks after one of `plan` is set or removed; a third mark removes the oldest."""
    if plan in marked:
        return tuple(other for other in marked if other != plan)
    return (*marked, plan)[-MOST_MARKED:]


def state_file() -> Path:
    """The file of the saved state: `$XDG_STATE_HOME/advisor/session.json`."""
    return state_folder() / "session.json"


def save_state(state: SavedState, path: Path) -> None:
    """Write the state, whole or not at all. Raises `AdvisorError` as `write_whole` does."""
    write_whole(path, json.dumps(_record(state), ensure_ascii=False, indent=1) + "\n")


def load_state(path: Path) -> SavedState | None:
    """The state in a file; `None` where there is no file. Raises `AdvisorError` `bad-session` where it cannot be read."""
    if not is_file(path):
        return None
    try:
        record: Any = parse_json(read_text(path, what="state"))
        return _state(record)
    except (AdvisorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise AdvisorError(
            "bad-session",
            f"{path} is not a saved state: {_fault(error)}",
            exit_code=ExitCode.USAGE,
            help=("advisor   starts with an empty form and renames that file",),
            file=str(path),
        ) from error


def set_aside(path: Path) -> Path:
    """Rename a file that cannot be read, so that a new one can be saved in its place; returns its new path."""
    return path.replace(path.with_suffix(".unread.json"))


def _fault(error: Exception) -> str:
    if isinstance(error, AdvisorError):
        return error.message
    if isinstance(error, json.JSONDecodeError):
        return f"line {error.lineno} is not JSON"
    return "it was edited, or another version wrote it"


def _record(state: SavedState) -> dict[str, object]:
    history = state.history
    return {
        "kind": "Session",
        "format": FORMAT,
        "asked": _values_record(history.present),
        "selected": state.selected,
        "marked": list(state.marked),
        "filter": state.filter,
        "sort": state.sort,
        "past": [_values_record(values) for values in history.past],
        "future": [_values_record(values) for values in history.future],
    }


def _values_record(values: FormValues) -> dict[str, object]:
    return {"texts": dict(values.texts), "require": list(values.require), "forbid": list(values.forbid)}


def _state(record: Mapping[str, Any]) -> SavedState:
    if record["kind"] != "Session" or str(record["format"]).split(".")[0] != FORMAT.split(".")[0]:
        raise ValueError(record["kind"])
    past, future = ([_values(step) for step in record[name]][-MOST_STEPS:] for name in ("past", "future"))
    return SavedState(
        history=History(_values(record["asked"]), tuple(past), tuple(future)),
        selected=record["selected"] and str(record["selected"]),
        marked=tuple(map(str, record["marked"]))[-MOST_MARKED:],
        filter=record["filter"] if record["filter"] in FILTERS else FILTERS[0],
        sort=record["sort"] if record["sort"] in SORTS else SORTS[0],
    )


def _values(record: Mapping[str, Any]) -> FormValues:
    values = FormValues({}, tuple(map(str, record["require"])), tuple(map(str, record["forbid"])))
    for name, text in record["texts"].items():
        if name in BY_NAME:
            values = values.with_text(name, str(text))
    return values
