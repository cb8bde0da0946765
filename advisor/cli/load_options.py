"""Options of the workload: token lengths, and how requests arrive. Shared by the commands that predict serving."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from advisor.cli.values import QuantityType, question_field
from advisor.planning.loads import TRACE, load_conflict
from advisor.profiles.errors import AdvisorError, ErrorAction, ExitCode
from advisor.quantities.limits import LIMITS
from advisor.quantities.parsing import REQUESTS, TOKENS

if TYPE_CHECKING:  # loads pydantic, which --help does not need
    from advisor.profiles.trace import Trace

_RATE = LIMITS["request_rate_per_s"]
FLAGS = {
    "concurrency": "--concurrency",
    "request_rate": "--request-rate",
    "burst": "--burst",
    "load_trace": "--load-trace",
    "offline_load": "--offline",
}
"""The flags of `loads.LOADS`."""
LENGTHS = {"prompt_tokens": "--prompt-tokens", "output_tokens": "--output-tokens"}
"""The flags of `loads.LENGTHS`."""


def with_load(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a load; the command receives `trace: Trace | None` with the numbers. At most one load may be given."""

    @click.option("--prompt-tokens", type=QuantityType(TOKENS), help="Prompt tokens per request.")
    @click.option("--output-tokens", type=QuantityType(TOKENS), help="Output tokens per request.")
    @click.option("--shared-prefix", type=QuantityType(TOKENS), help="Prompt tokens that all requests share, such as instructions.")
    @click.option("--concurrency", type=QuantityType(REQUESTS), help="Concurrent requests.")
    @click.option(_RATE.flag, type=QuantityType(_RATE.quantity), help=f"{_RATE.help}.")
    @click.option("--burst", type=QuantityType(REQUESTS), metavar="N", help="N requests that all arrive at once.")
    @click.option(
        "--load-trace", type=click.Path(path_type=Path), metavar="FILE",
        help="CSV or JSON lines of requests: arrival_s, prompt_tokens, output_tokens.",
    )  # fmt: skip
    @functools.wraps(command)
    def wrapped(*args: Any, **options: Any) -> Any:
        return command(*args, **read_load(options))

    return wrapped


def read_load(options: Mapping[str, Any]) -> dict[str, Any]:
    """The same parameters with the content of `load_trace` as `trace`. Raises as `check_load` does, and for an unreadable trace."""
    check_load(options)
    read = dict(options)
    return {**read, "trace": _read(read.pop("load_trace"))}


def check_load(options: Mapping[str, Any]) -> None:
    """Raise `AdvisorError` `usage` for two loads, and for lengths given with a trace, which has its own."""
    conflict = load_conflict([name for name in (*FLAGS, *LENGTHS) if options.get(name)])
    if conflict is None:
        return
    field, flags = conflict.parameters[0], [(FLAGS | LENGTHS)[name] for name in conflict.parameters]
    if conflict.with_trace:
        flags.append(FLAGS[TRACE])
    raise AdvisorError(
        "usage",
        f"{' and '.join(flags)} exclude each other",
        exit_code=ExitCode.USAGE,
        help=("drop the lengths: the trace has those of each request",) if conflict.with_trace else (f"keep {flags[0]}",),
        field=question_field(field),
        action=ErrorAction.DROP if conflict.with_trace else ErrorAction.KEEP_ONE,
    )


def _read(path: Path | None) -> "Trace | None":
    if path is None:
        return None
    from advisor.profiles.trace import read_trace  # loads pydantic: not needed for --help

    return read_trace(path)
