"""Request traces: arrival time, prompt and output length of each request."""

import csv
import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from advisor.profiles.errors import AdvisorError, ErrorAction, ExitCode
from advisor.profiles.files import regular_bytes
from advisor.profiles.frozen import Frozen
from advisor.profiles.json_text import parse_json

COLUMNS = ("arrival_s", "prompt_tokens", "output_tokens")
MOST_REQUESTS = 100_000
"""Longest trace that is accepted; the simulation of every finalist of a plan serves all of it."""
MOST_TOKENS = 10**9
MOST_BYTES = 64 * 1024**2
"""Largest file that is read: `MOST_REQUESTS` lines of 600 characters."""


class Arrival(Frozen):
    """One request of a trace."""

    arrival_s: float = Field(ge=0, allow_inf_nan=False)
    """Seconds from the start of the trace."""
    prompt_tokens: int = Field(ge=1, le=MOST_TOKENS)
    output_tokens: int = Field(ge=1, le=MOST_TOKENS)


class Trace(Frozen):
    """Requests in order of arrival, the first one at 0."""

    name: str
    """The file it was read from."""
    requests: tuple[Arrival, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        arrivals = [request.arrival_s for request in self.requests]
        if arrivals != sorted(arrivals):
            raise ValueError("requests must be in order of arrival")
        return self

    def __hash__(self) -> int:
        """Of name, length and last arrival only: workloads are keys of the planner's caches."""
        return hash((self.name, len(self.requests), self.requests[-1].arrival_s))

    @property
    def prompt_tokens(self) -> int:
        """Mean prompt length, rounded."""
        return round(fmean(request.prompt_tokens for request in self.requests))

    @property
    def output_tokens(self) -> int:
        """Mean output length, rounded."""
        return round(fmean(request.output_tokens for request in self.requests))

    @property
    def longest_tokens(self) -> int:
        """Prompt and output of the longest request."""
        return max(request.prompt_tokens + request.output_tokens for request in self.requests)

    @cached_property
    def longest_prompt_tokens(self) -> int:
        """Length of the longest prompt."""
        return max(request.prompt_tokens for request in self.requests)

    @property
    def rate_per_s(self) -> float | None:
        """Mean arrivals per second; `None` where all arrive at once."""
        last = self.requests[-1].arrival_s
        return (len(self.requests) - 1) / last if last > 0 else None


def read_trace(path: Path) -> Trace:
    """The trace in a file: CSV with a header, or JSON lines, with `arrival_s`, `prompt_tokens` and `output_tokens`.

    Other columns are ignored. Requests are sorted by arrival and the first arrival becomes 0. Raises `AdvisorError` `bad-trace`.
    """
    try:
        text = regular_bytes(path, MOST_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise _bad(path, f"cannot be read: {(error.strerror or str(error)).lower()}", exit_code=ExitCode.MISSING) from error
    except UnicodeDecodeError as error:
        raise _bad(path, f"not UTF-8 text at byte {error.start}") from error
    rows = _json_rows(path, text) if text.lstrip().startswith("{") else _csv_rows(path, text)
    arrivals = sorted((_arrival(path, line, row) for line, row in rows), key=lambda arrival: arrival.arrival_s)
    if not arrivals:
        raise _bad(path, "it holds no request")
    if len(arrivals) > MOST_REQUESTS:
        raise _bad(path, f"{len(arrivals)} requests are more than the {MOST_REQUESTS} that are simulated", "cut it to the busiest hours")
    first = arrivals[0].arrival_s
    return Trace(
        name=str(path), requests=tuple(arrival.model_copy(update={"arrival_s": arrival.arrival_s - first}) for arrival in arrivals)
    )


def _csv_rows(path: Path, text: str) -> Iterable[tuple[int, Mapping[str, Any]]]:
    reader = csv.DictReader(text.splitlines(), strict=True)
    try:
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or [])]
        if missing:
            raise _bad(path, f"no column {', '.join(missing)}", f"the first line names the columns: {','.join(COLUMNS)}")
        return [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise _bad(path, f"not a CSV table: {error}") from error


def _json_rows(path: Path, text: str) -> Iterable[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except json.JSONDecodeError as error:
            raise _bad(path, f"line {number} is not JSON: {error.msg.lower()}") from error
        except ValueError as error:
            raise _bad(path, f"line {number}: {error}") from error
        if not isinstance(row, dict):
            raise _bad(path, f"line {number} is not a JSON object")
        yield number, row


def _arrival(path: Path, line: int, row: Mapping[str, Any]) -> Arrival:
    try:
        return Arrival.model_validate({name: row.get(name) for name in COLUMNS})
    except ValidationError as error:
        first = error.errors()[0]
        name, given = first["loc"][0], row.get(str(first["loc"][0]))
        shown = "is missing" if given is None or given == "" else f"is `{given}`"
        wanted = "seconds, 0 or more" if name == "arrival_s" else "a count of tokens, 1 or more"
        raise _bad(path, f"line {line}: {name} {shown}, not {wanted}", f"a request is {', '.join(COLUMNS)}") from error


def _bad(path: Path, problem: str, *help_lines: str, exit_code: ExitCode = ExitCode.USAGE) -> AdvisorError:
    return AdvisorError(
        "bad-trace", f"{path}: {problem}", exit_code=exit_code, help=help_lines, file=str(path), field="trace", action=ErrorAction.CORRECT
    )
