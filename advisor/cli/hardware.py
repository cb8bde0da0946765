"""`advisor hardware`: list, show and detect accelerators."""

import dataclasses
from typing import TYPE_CHECKING

import click

from advisor.cli.options import DefaultGroup, Output, with_output
from advisor.profiles.errors import ExitCode

if TYPE_CHECKING:  # parsed with pydantic when the command runs
    from advisor.profiles.hardware import Hardware


@click.group("hardware", cls=DefaultGroup, short_help="List, show and detect accelerators.")
def command() -> None:
    """List, show and detect accelerators. Alone it lists; `advisor hardware ID` shows one."""


@command.command("list")
@with_output
def list_all(output: Output) -> ExitCode:
    """List every accelerator that advisor knows."""
    from advisor.profiles.hardware import load_hardware, shipped_hardware
    from advisor.rendering.text.hardware import hardware_table_text

    known = [load_hardware(id) for id in shipped_hardware()]
    output.emit(lambda: {"hardware": [_record(item) for item in known]}, lambda: hardware_table_text(known, **output.look))
    return ExitCode.OK


@command.command("show")
@click.argument("id")
@with_output
def show(output: Output, id: str) -> ExitCode:
    """Show every figure of one accelerator with its source."""
    from advisor.profiles.hardware import load_hardware
    from advisor.rendering.text.hardware import hardware_text

    found = load_hardware(id)
    output.emit(lambda: _record(found), lambda: hardware_text(found, **output.look))
    return ExitCode.OK


def _record(hardware: "Hardware") -> dict[str, object]:
    return hardware.model_dump(mode="json", exclude_none=True)


@command.command("detect")
@with_output
def detect_here(output: Output) -> ExitCode:
    """Show what this machine is, and what it reads as for planning."""
    from advisor.backends.detection.detect import detect, detected_hardware, fingerprint
    from advisor.cli.doctor import redact
    from advisor.rendering.text.hardware import hardware_text
    from advisor.rendering.text.table import tree_text

    here = detect()
    found = detected_hardware(here)
    seen = redact({"fingerprint": fingerprint(here), **dataclasses.asdict(here)})
    output.emit(
        lambda: {**seen, "devices": here.devices, "hardware": _record(found)},
        lambda: f"{tree_text(seen, **output.look)}\n{hardware_text(found, **output.look)}",
    )
    return ExitCode.OK
