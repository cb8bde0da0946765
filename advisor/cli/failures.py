"""Prints every failure of a command: `error[code]`, `note:` and `help:` on stderr, or one JSON object."""

import errno
import json
import os
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path

import click

from advisor.cli.width import fitted
from advisor.profiles.errors import AdvisorError, ErrorAction, ExitCode
from advisor.profiles.files import write_whole
from advisor.running.folders import state_folder


class Terminated(BaseException):
    """Raised on SIGTERM, so that `finally` blocks run."""


def report(error: BaseException, *, as_json: bool) -> int:
    """Print one failure on stderr and return the exit code."""
    failure = describe(error)
    if as_json:
        text = json.dumps({"error": failure.as_dict()}, ensure_ascii=False)
    else:
        text = "\n".join(
            (
                f"error[{failure.code}]: {failure.message}",
                *(f"  note: {note}" for note in failure.notes),
                *(f"  help: {line}" for line in failure.help),
            )
        )
    print(text if as_json else fitted(text), file=sys.stderr, flush=True)
    return int(failure.exit_code)


def describe(error: BaseException) -> AdvisorError:
    """The exception as an `AdvisorError`; the trace of an unexpected one is written to a log file."""
    if isinstance(error, AdvisorError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return AdvisorError("interrupted", "stopped by Ctrl-C", exit_code=ExitCode.INTERRUPTED)
    if isinstance(error, Terminated):
        return AdvisorError("terminated", "stopped by SIGTERM", exit_code=ExitCode.TERMINATED)
    if isinstance(error, click.UsageError):
        return _usage(error)
    if isinstance(error, click.ClickException):
        return AdvisorError("usage", _sentence(error.format_message()), exit_code=ExitCode.USAGE)
    if isinstance(error, MemoryError):
        return AdvisorError("out-of-memory", "this process ran out of memory", exit_code=ExitCode.DIED)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return AdvisorError("disk-full", f"no space left to write {error.filename or 'a file'}", help=("free some space and run it again",))
    return _internal(error)


def _usage(error: click.UsageError) -> AdvisorError:
    path = error.ctx.command_path if error.ctx else "advisor"
    suggestions = getattr(error, "possibilities", None) or ()
    prefix = f"{path} " if isinstance(error, click.NoSuchCommand) else ""
    message = error.message if isinstance(error, click.NoSuchOption | click.NoSuchCommand) else error.format_message()
    field = _field(error)
    action = ErrorAction.GIVE if isinstance(error, click.MissingParameter) else ErrorAction.CORRECT if field else None
    return AdvisorError(
        "usage",
        _sentence(message.replace("'", "`")),
        exit_code=ExitCode.USAGE,
        help=(*(f"did you mean `{prefix}{word}`?" for word in suggestions), f"{path} --help"),
        field=field,
        action=action,
    )


def _field(error: click.UsageError) -> str | None:
    if not isinstance(error, click.BadParameter):
        return None
    from advisor.cli.values import field_of  # the table of limits takes 5 ms, which `--help` does not wait for

    return field_of(error.param)


def _sentence(text: str) -> str:
    line = " ".join(text.split()).rstrip(".")
    return line[:1].lower() + line[1:]


def _internal(error: BaseException) -> AdvisorError:
    trace = "".join(traceback.format_exception(error))
    try:
        log = _log_file()
        write_whole(log, trace)
        where = f"the full trace is in {log}"
    except AdvisorError as failure:
        where = f"the trace could not be saved: {failure.message}; it ends: {trace.strip().splitlines()[-1]}"
    reason = " ".join(str(error).split())[:200]
    return AdvisorError(
        "internal",
        f"a fault in advisor itself: {type(error).__name__}" + (f": {reason}" if reason else ""),
        exit_code=ExitCode.FAILED,
        notes=(where,),
        help=("advisor doctor   collects what a bug report needs",),
    )


def _log_file() -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    return state_folder() / "logs" / f"{stamp}-{os.getpid()}.log"
