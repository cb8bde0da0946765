"""Where runs and state are stored."""

import os
from datetime import UTC, datetime
from pathlib import Path


def runs_folder() -> Path:
    """Where runs are kept: `$XDG_STATE_HOME/advisor/runs`."""
    return state_folder() / "runs"


def new_run_folder(plan_id: str) -> Path:
    """A folder for a run of a plan that begins now; it is not made."""
    return runs_folder() / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{plan_id}"


def state_folder() -> Path:
    """Where logs and runs are kept: `$XDG_STATE_HOME/advisor`."""
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "advisor"
