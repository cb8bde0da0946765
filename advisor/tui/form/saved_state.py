"""The state of a session, saved whole at each change and resumed from one file. Holds texts as typed; knows no screen."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from advisor.profiles.errors import AdvisorError, ExitCode
from advisor.running.folders import state_folder
from advisor.tui.form.fields import BY_NAME
from advisor.tui.form.history import MOST_STEPS, History
from advisor.tui.form.values import FormValues

FORMAT = "1.0"
FILTERS = ("frontier", "feasible", "all")
SORTS = ("rank", "memory", "TTFT", "TPOT", "throughput", "quality")
MOST_MARKED = 2


@dataclass(frozen=True, slots=True)
class SessionState:
    """All that a person would miss if it were gone."""

    history: History = field(default_factory=History)
    selected: str | None = None
    """Id of the plan under the cursor; `None`: the best one."""
    marked: tuple[str, ...] = ()
    """Ids of plans to compare, at most two, the older first."""
    filter: str = "frontier"
    sort: str = "rank"

    @property
    def asked(self) -> FormValues:
        """The question as it stands."""
        return self.history.present


def with_mark(marked: tuple[str, ...], plan: str) -> tuple[str, ...]:
    """Mark a plan, or take its mark away; a third mark takes that of the oldest."""
    if plan in marked:
        return tuple(other for other in marked if other != plan)
    return (*marked, plan)[-MOST_MARKED:]


def session_file() -> Path:
    """Where the session is kept: `$XDG_STATE_HOME/advisor/session.json`."""
    return state_folder() / "session.json"


def save_session(state: SessionState, path: Path) -> None:
    """Write the session, whole or not at all. Raises `AdvisorError` as `write_whole` does."""
    from advisor.profiles.files import write_whole  # loads yaml, which the first frame does not wait for

    write_whole(path, json.dumps(_record(state), ensure_ascii=False, indent=1) + "\n")


def load_session(path: Path) -> SessionState | None:
    """The session in a file; `None` where there is none. Raises `AdvisorError` `bad-session` for what is no session."""
    if not path.is_file():
        return None
    try:
        return _state(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise AdvisorError(
            "bad-session",
            f"{path} is no saved session: {_fault(error)}",
            exit_code=ExitCode.USAGE,
            help=("advisor   starts a new session and keeps that file aside",),
            file=str(path),
        ) from error


def set_aside(path: Path) -> Path:
    """Rename a file that is no session, so that a new one can be saved in its place; its new name."""
    return path.replace(path.with_suffix(".unread.json"))


def _fault(error: Exception) -> str:
    if isinstance(error, OSError):
        return (error.strerror or type(error).__name__).lower()
    if isinstance(error, json.JSONDecodeError):
        return f"line {error.lineno} is not JSON"
    return "it was edited, or another version wrote it"


def _record(state: SessionState) -> dict[str, object]:
    history = state.history
    return {
        "kind": "Session",
        "format": FORMAT,
        "asked": _asked_record(history.present),
        "selected": state.selected,
        "marked": list(state.marked),
        "filter": state.filter,
        "sort": state.sort,
        "past": [_asked_record(asked) for asked in history.past],
        "future": [_asked_record(asked) for asked in history.future],
    }


def _asked_record(asked: FormValues) -> dict[str, object]:
    return {"texts": dict(asked.texts), "require": list(asked.require), "forbid": list(asked.forbid)}


def _state(record: Mapping[str, Any]) -> SessionState:
    if record["kind"] != "Session" or str(record["format"]).split(".")[0] != FORMAT.split(".")[0]:
        raise ValueError(record["kind"])
    past, future = ([_asked(step) for step in record[name]][-MOST_STEPS:] for name in ("past", "future"))
    return SessionState(
        history=History(_asked(record["asked"]), tuple(past), tuple(future)),
        selected=record["selected"] and str(record["selected"]),
        marked=tuple(map(str, record["marked"]))[-MOST_MARKED:],
        filter=record["filter"] if record["filter"] in FILTERS else FILTERS[0],
        sort=record["sort"] if record["sort"] in SORTS else SORTS[0],
    )


def _asked(record: Mapping[str, Any]) -> FormValues:
    asked = FormValues({}, tuple(map(str, record["require"])), tuple(map(str, record["forbid"])))
    for name, text in record["texts"].items():
        if name in BY_NAME:
            asked = asked.with_text(name, str(text))
    return asked
