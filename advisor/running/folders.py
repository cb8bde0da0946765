"""The folders of runs and logs."""

import os
from datetime import UTC, datetime
from pathlib import Path

from advisor.profiles.files import check_file_name


def runs_folder() -> Path:
    """The folder of all runs: `$XDG_STATE_HOME/advisor/runs`."""
    return state_folder() / "runs"


def new_run_folder(plan_id: str) -> Path:
    """The path for a run of a plan that starts now, named by time and plan; the folder is not created.

    Raises `AdvisorError` `bad-name` for an id that cannot be part of a path.
    """
    check_file_name(plan_id, what="id of a plan")
    return runs_folder() / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{plan_id}"


def state_folder() -> Path:
    """The folder of logs and runs: `$XDG_STATE_HOME/advisor`, by default under `~/.local/state`."""
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "advisor"
