"""Reads a run file: the record of an applied plan."""

import json
from pathlib import Path

from pydantic import ValidationError

from advisor.profiles.errors import AdvisorError, ExitCode
from advisor.profiles.files import read_text
from advisor.profiles.run import Run

_MAX_BYTES = 256 * 2**20
"""Runs hold raw samples; a thousand requests take about 200 kB."""


def read_run(path: Path) -> Run:
    """The run in a file, or in the folder that `advisor apply` wrote.

    Raises `AdvisorError`: what `read_text` raises, and `run-file` for what is no run.
    """
    file = path / "run.json" if path.is_dir() else path
    text = read_text(file, what="run", limit_bytes=_MAX_BYTES)
    try:
        return Run.model_validate(json.loads(text))
    except json.JSONDecodeError as error:
        raise _no_run(file, f"not JSON: {error.msg}", error.lineno) from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise _no_run(file, f"`{field}`: {first['msg'].lower()}", None) from error
    except RecursionError as error:
        raise _no_run(file, "nested too deeply", None) from error


def _no_run(file: Path, problem: str, line: int | None) -> AdvisorError:
    place = f"{file}:{line}" if line else str(file)
    return AdvisorError(
        "run-file",
        f"{place} is no run file: {problem}",
        exit_code=ExitCode.USAGE,
        help=("advisor apply plan.yaml   writes one",),
        file=str(file),
        line=line,
    )
