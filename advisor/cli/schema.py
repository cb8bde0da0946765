"""`advisor schema`: the JSON Schema of the files that commands write."""

import json

import click

from advisor.profiles.errors import ExitCode


@click.command("schema", short_help="Print the JSON Schema of a plan, profile or run file.")
@click.argument("kind", type=click.Choice(["plan", "profile", "run"]))
@click.option("--json", is_flag=True, expose_value=False, help="A schema is JSON already; accepted for evenness.")
@click.option("--error-format", type=click.Choice(["text", "json"]), default="text", expose_value=False, help="How errors are written.")
def command(kind: str) -> ExitCode:
    """Print the JSON Schema of a plan, profile or run file."""
    from advisor.schemas import schema_of

    click.echo(json.dumps(schema_of(kind), indent=2, ensure_ascii=False))
    return ExitCode.OK
