"""`advisor schema`: the JSON Schema of the files that commands write."""

import json
from typing import Any

import click
from pydantic import BaseModel

from advisor.help.field_docs import field_docs
from advisor.profiles.errors import ExitCode


@click.command("schema", short_help="Print the JSON Schema of a plan, profile, run or hardware file.")
@click.argument("kind", type=click.Choice(["plan", "profile", "run", "hardware"]))
@click.option("--json", is_flag=True, expose_value=False, help="Accepted as in other commands; a schema is always JSON.")
@click.option("--error-format", type=click.Choice(["text", "json"]), default="text", expose_value=False, help="How errors are written.")
def command(kind: str) -> ExitCode:
    """Print the JSON Schema of a plan, profile, run or hardware file."""

    click.echo(json.dumps(schema_of(kind), indent=2, ensure_ascii=False))
    return ExitCode.OK


_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema_of(kind: str) -> dict[str, Any]:
    """The JSON Schema of a `plan`, `profile`, `run` or `hardware` file of format 1."""
    record = _record(kind)
    body = record.model_json_schema(mode="validation")
    for name, texts in field_docs(record).items():
        properties = body.get("$defs", {}).get(name, body if name == record.__name__ else {}).get("properties", {})
        for field, text in texts.items():
            properties.get(field, {}).setdefault("description", text)
    return {"$schema": _DIALECT, "title": f"advisor {kind} file, format 1", **{key: value for key, value in body.items() if key != "title"}}


def _record(kind: str) -> type[BaseModel]:
    if kind == "plan":
        from advisor.planfile.file import PlanFile

        return PlanFile
    if kind == "profile":
        from advisor.profiles.machine import MachineProfile

        return MachineProfile
    if kind == "hardware":
        from advisor.profiles.hardware import DataSheet

        return DataSheet
    from advisor.profiles.run import Run

    return Run
