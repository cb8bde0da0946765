"""JSON Schemas of the files that commands write."""

from typing import Any

from pydantic import BaseModel

from advisor.field_docs import field_docs

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema_of(kind: str) -> dict[str, Any]:
    """The JSON Schema of a `plan`, `profile` or `run` file of our major version."""
    record = _record(kind)
    body = record.model_json_schema(mode="validation")
    for name, texts in field_docs(record).items():
        properties = body["$defs"].get(name, body if name == record.__name__ else {}).get("properties", {})
        for field, text in texts.items():
            properties.get(field, {}).setdefault("description", text)
    return {"$schema": _DIALECT, "title": f"advisor {kind} file, format 1", **{key: value for key, value in body.items() if key != "title"}}


def _record(kind: str) -> type[BaseModel]:
    if kind == "plan":
        from advisor.plans.file import PlanFile

        return PlanFile
    if kind == "profile":
        from advisor.profiles.machine import MachineProfile

        return MachineProfile
    from advisor.profiles.run import Run

    return Run
