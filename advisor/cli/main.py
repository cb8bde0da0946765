"""The command group, and the entry point of the command line."""

import contextlib
import gc
import importlib
import itertools
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn, Protocol

import click

from advisor import __version__
from advisor.cli.failures import Terminated, report
from advisor.profiles.errors import ExitCode

# The line that `advisor --help` shows for each command, so that help imports no command.
COMMANDS = {
    "plan": "Find the best way to run MODEL under the given limits.",
    "apply": "Run a plan, technique by technique, and measure it.",
    "compare": "Compare a finished run with its predictions.",
    "quality": "Measure the quality loss of techniques, head by head.",
    "estimate": "Predict the metrics of one explicit configuration of MODEL.",
    "validate": "Predict published measurements and report the errors.",
    "profile": "Measure this machine, and manage stored profiles.",
    "hardware": "List, show and detect accelerators.",
    "models": "List and show model architectures.",
    "explain": "Explain a technique, metric, limit, plan field or error code.",
    "doctor": "Report what was detected and how, for bug reports.",
    "demo": "Plan, apply and compare the shipped model on this machine.",
    "schema": "Print the JSON Schema of a plan, profile, run or hardware file.",
}


class CommandGroup(click.Group):
    """Loads a command's module when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, in the order of use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"advisor.cli.{cmd_name}").command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; for a mistyped one, name the nearest."""
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:
            raise click.NoSuchCommand(error.command_name, possibilities=COMMANDS, ctx=ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table above."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=CommandGroup, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(__version__, message="advisor %(version)s")
@click.option(
    "--error-format", type=click.Choice(["text", "json"]), default="text", expose_value=False, help="How errors are written on stderr."
)
@click.option("--resume", is_flag=True, help="Terminal interface: restore the last plan.")
@click.option("--ascii", "ascii_", is_flag=True, help="Terminal interface: draw with ASCII characters only.")
@click.option("--light", is_flag=True, help="Terminal interface: colours for a light terminal.")
@click.pass_context
def cli(ctx: click.Context, resume: bool, ascii_: bool, light: bool) -> int | None:
    """Plan how to run a Transformer, apply the plan, and compare measured with predicted values.

    Without a command, `advisor` opens the terminal interface.
    """
    if ctx.invoked_subcommand is not None:
        return None
    if ctx.obj is None:
        click.echo(ctx.get_help(), err=True)
        return ExitCode.USAGE
    opener: OpenTerminalInterface = ctx.obj
    return opener(ascii=ascii_, light=light, resume=resume)


class OpenTerminalInterface(Protocol):
    """Opens the terminal interface; `advisor.__main__` passes it in, because the command line does not import the interface."""

    def __call__(self, *, ascii: bool, light: bool, resume: bool) -> int:
        """Run it until the user leaves it; returns the exit code."""


GARBAGE_THRESHOLD = 200_000
"""Allocations between two runs of the garbage collector: at Python's 700, planning spends a fifth of its time in it and frees nothing."""


def main(arguments: Sequence[str] | None = None, *, open_interface: OpenTerminalInterface | None = None) -> int:
    """Run one command line, print any error, and return the exit code.

    `open_interface` is called if no command is given; without it, that is a usage error.
    """
    gc.set_threshold(GARBAGE_THRESHOLD)
    _open_closed_streams()
    given = list(sys.argv[1:] if arguments is None else arguments)
    as_json = _wants_json_errors(given)
    try:
        with _terminated_as_exception():
            return _run(given, open_interface)
    except BaseException as error:  # noqa: BLE001 - the outermost frame: whatever happened is reported, never shown as a trace
        return _reader_left() if isinstance(error, BrokenPipeError) else report(error, as_json=as_json)


def _run(arguments: list[str], open_interface: OpenTerminalInterface | None) -> int:
    """The same as click's `main`, except that closed pipes and errors propagate."""
    try:
        with cli.make_context("advisor", arguments, auto_envvar_prefix="ADVISOR", obj=open_interface) as context:
            code = cli.invoke(context)
    except click.exceptions.Exit as ended:  # as after --help
        code = ended.exit_code
    sys.stdout.flush()
    return int(code or 0)


def _open_closed_streams() -> None:
    """Replace streams that the shell closed (`>&-`), which Python sets to `None`, so that output to them is discarded."""
    sys.stdout = sys.stdout or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - open as long as the process
    sys.stderr = sys.stderr or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - open as long as the process


def _reader_left() -> int:
    """The reader closed the pipe: keep the interpreter from flushing into it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)
    return ExitCode.OK


def _wants_json_errors(arguments: Sequence[str]) -> bool:
    """Whether errors are printed as JSON; read from the arguments because a usage error leaves no parsed options."""
    spelled = [f"{left}={right}" for left, right in itertools.pairwise(arguments)]
    option = "--error-format=json"
    return option in spelled or option in arguments or os.environ.get("ADVISOR_ERROR_FORMAT") == "json"


@contextlib.contextmanager
def _terminated_as_exception() -> Iterator[None]:
    def terminate(number: int, frame: FrameType | None) -> NoReturn:
        raise Terminated

    try:
        before = signal.signal(signal.SIGTERM, terminate)
    except ValueError:  # not the main thread, as under some test runners
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
