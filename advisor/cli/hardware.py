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
    """List the accelerators of the catalogue."""
    from advisor.profiles.hardware import load_hardware, shipped_hardware
    from advisor.rendering.text.hardware import hardware_table_text

    catalogue = [load_hardware(id) for id in shipped_hardware()]
    output.emit(lambda: {"hardware": [_record(item) for item in catalogue]}, lambda: hardware_table_text(catalogue, **output.look))
    return ExitCode.OK


@command.command("show")
@click.argument("id")
@with_output
def show(output: Output, id: str) -> ExitCode:
    """Show every figure of one accelerator with its source."""
    from advisor.profiles.hardware import load_hardware
    from advisor.rendering.text.hardware import hardware_text

    hardware = load_hardware(id)
    output.emit(lambda: _record(hardware), lambda: hardware_text(hardware, **output.look))
    return ExitCode.OK


def _record(hardware: "Hardware") -> dict[str, object]:
    return hardware.model_dump(mode="json", exclude_none=True)


@command.command("detect")
@with_output
def detect_command(output: Output) -> ExitCode:
    """Show what was detected on this machine, and the hardware record that planning uses for it."""
    from advisor.backends.detection.detect import detect, detected_hardware, fingerprint
    from advisor.cli.doctor import redact
    from advisor.rendering.text.hardware import hardware_text
    from advisor.rendering.text.table import tree_text

    detected = detect()
    hardware = detected_hardware(detected)
    report = redact({"fingerprint": fingerprint(detected), **dataclasses.asdict(detected)})
    output.emit(
        lambda: {**report, "devices": detected.devices, "hardware": _record(hardware)},
        lambda: f"{tree_text(report, **output.look)}\n{hardware_text(hardware, **output.look)}",
    )
    return ExitCode.OK
