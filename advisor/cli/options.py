"""Options that every command has, and printing of results."""

import functools
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

import click

from advisor.cli.width import fitted, text_width

FORMAT = "1.0"
"""Version of the JSON that commands print. Minor versions add keys, major ones change them."""


class LookOptions(TypedDict):
    """Keyword arguments that every text view takes."""

    width: int
    colour: bool
    ascii: bool


@dataclass(frozen=True, slots=True)
class Output:
    """How a command prints: results to stdout, notes to stderr."""

    format: str
    quiet: bool
    colour: bool
    ascii: bool

    @property
    def look(self) -> LookOptions:
        """Keyword arguments for the text views."""
        return {"width": text_width(), "colour": self.colour, "ascii": self.ascii}

    def emit(self, document: Callable[[], Mapping[str, Any]], text: Callable[[], str]) -> None:
        """Print a result as JSON or YAML of `document`, or as `text`; only the one that is printed is computed."""
        click.echo((text() if self.format == "text" else self._data(document())).rstrip("\n"), color=True)

    def _data(self, document: Mapping[str, Any]) -> str:
        stamped = {"format": FORMAT, **document}
        if self.format == "json":
            return json.dumps(stamped, ensure_ascii=False, indent=2)
        import yaml  # takes 15 ms; text and JSON do not need it

        dumped: str = yaml.safe_dump(json.loads(json.dumps(stamped)), sort_keys=False, allow_unicode=True, width=120)
        return dumped

    def note(self, line: str) -> None:
        """Print one line on stderr unless quiet."""
        if not self.quiet:
            print(fitted(line), file=sys.stderr, flush=True)


def with_output(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of every command; the command receives `output: Output`."""

    @click.option("--json", "json_", is_flag=True, help="Same as --format json.")
    @click.option("-f", "--format", "format_", type=click.Choice(["text", "json", "yaml"]), default="text", show_default=True)
    @click.option("-q", "--quiet", is_flag=True, help="No progress and no notes on stderr.")
    @click.option("--color", "--colour", type=click.Choice(["auto", "always", "never"]), default="auto", show_default=True)
    @click.option("--ascii", "ascii_", is_flag=True, help="Draw with ASCII characters only.")
    @click.option("--error-format", type=click.Choice(["text", "json"]), default="text", expose_value=False, help="How errors are written.")
    @functools.wraps(command)
    def wrapped(*args: Any, json_: bool, format_: str, quiet: bool, color: str, ascii_: bool, **options: Any) -> Any:
        output = Output("json" if json_ else format_, quiet, _coloured(color), ascii_)
        return command(*args, output=output, **options)

    return wrapped


def _coloured(wish: str) -> bool:
    if wish == "auto":
        return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return wish == "always"


class DefaultGroup(click.Group):
    """A group such as `hardware`: alone it lists, and with an argument that is not one of its commands it shows that item."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Insert `list` or `show` where the command is omitted."""
        if not args or (args[0].startswith("-") and args[0] not in ("-h", "--help")):
            args = ["list", *args]
        elif not args[0].startswith("-") and args[0] not in self.commands and "show" in self.commands:
            args = ["show", *args]
        return super().parse_args(ctx, args)
