"""Options that every command shares, and the one way to print a result."""

import functools
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import click

FORMAT = "1.0"
"""Version of the JSON that commands print. Minor versions add keys, major ones change them."""


@dataclass(frozen=True, slots=True)
class Output:
    """Where a command's result goes: data to stdout, narration to stderr."""

    format: str
    quiet: bool

    def emit(self, document: Mapping[str, Any], text: Callable[[], str]) -> None:
        """Print a result as JSON or YAML, or as the text that `text` makes."""
        click.echo(self.render(document, text).rstrip("\n"))

    def render(self, document: Mapping[str, Any], text: Callable[[], str]) -> str:
        """The result in the chosen format."""
        stamped = {"format": FORMAT, **document}
        if self.format == "json":
            return json.dumps(stamped, ensure_ascii=False, indent=2)
        if self.format == "yaml":
            import yaml  # only here: 15 ms that text and JSON do not need

            dumped: str = yaml.safe_dump(json.loads(json.dumps(stamped)), sort_keys=False, allow_unicode=True, width=120)
            return dumped
        return text()

    def note(self, line: str) -> None:
        """Say one line on stderr unless quiet."""
        if not self.quiet:
            print(line, file=sys.stderr, flush=True)


def with_output(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--json`, `--format`, `--quiet` and `--error-format`; the command receives `output: Output`."""

    @click.option("--json", "json_", is_flag=True, help="Same as --format json.")
    @click.option("-f", "--format", "format_", type=click.Choice(["text", "json", "yaml"]), default="text", show_default=True)
    @click.option("-q", "--quiet", is_flag=True, help="No progress and no notes on stderr.")
    @click.option("--error-format", type=click.Choice(["text", "json"]), default="text", expose_value=False)
    @functools.wraps(command)
    def wrapped(*args: Any, json_: bool, format_: str, quiet: bool, **options: Any) -> Any:
        return command(*args, output=Output("json" if json_ else format_, quiet), **options)

    return wrapped
