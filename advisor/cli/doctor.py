"""`advisor doctor`: a report of the machine, versions, paths and profiles, for bug reports."""

import os
import platform
import re
import sys
from pathlib import Path
from typing import Any

import click

from advisor import __version__
from advisor.backends.detection.compiler import cpp_compiler
from advisor.backends.detection.detect import Detected, detect, detected_hardware, fingerprint
from advisor.backends.detection.packages import versions
from advisor.cli.options import Output, with_output
from advisor.profiles.architectures.spec import shipped_models
from advisor.profiles.errors import AdvisorError, ExitCode
from advisor.profiles.formats import GIB
from advisor.profiles.hardware import shipped_hardware
from advisor.profiles.store import fresh_profile, list_profiles, profiles_folder


@click.command("doctor", short_help="Report what was detected and how, for bug reports.")
@with_output
def command(output: Output) -> ExitCode:
    """Report what was detected and how, versions, paths and profiles. User names and home paths are removed."""
    from advisor.rendering.text.table import tree_text

    report = examine()
    output.emit(lambda: report, lambda: tree_text(report, **output.look))
    return ExitCode.OK


_PACKAGES = (
    "click",
    "pydantic",
    "pyyaml",
    "numpy",
    "textual",
    "nvidia-ml-py",
    "torch",
    "triton",
    "transformers",
    "accelerate",
    "safetensors",
    "tokenizers",
)


def examine() -> dict[str, Any]:
    """The content of a bug report, without user names and home paths."""
    detected = detect()
    report = {
        "advisor": __version__,
        "python": platform.python_version(),
        "system": detected.host.platform,
        "packages": dict.fromkeys(_PACKAGES) | versions(_PACKAGES),
        "processor": _processor(detected),
        "gpus": [_gpu(gpu) for gpu in detected.gpus],
        "cpp_compiler": cpp_compiler(),
        "detection_notes": list(detected.notes),
        "machine": _machine(detected),
        "profiles": _profiles(detected),
        "paths": {"program": str(Path(__file__).parents[1]), "profiles": str(profiles_folder()), "python": sys.executable},
        "settings": {name: value for name, value in sorted(os.environ.items()) if name.startswith("ADVISOR_") or name in _SETTINGS},
        "shipped": {"hardware": len(shipped_hardware()), "models": len(shipped_models())},
    }
    cleaned: dict[str, Any] = redact(report)
    return cleaned


_SETTINGS = ("CUDA_VISIBLE_DEVICES", "HF_HUB_OFFLINE", "NO_COLOR", "OMP_NUM_THREADS", "TERM", "XDG_DATA_HOME", "XDG_STATE_HOME")


def redact(value: Any) -> Any:
    """The same value with home folders replaced by `~` and the user's name by `USER` in every string."""
    if isinstance(value, dict):
        return {key: redact(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact(item) for item in value]
    return _redacted(value) if isinstance(value, str) else value


def _redacted(text: str) -> str:
    text = text.replace(str(Path.home()), "~")
    text = re.sub(r"/(home|Users)/[^/\s]+", "~", text)
    for name in {os.environ.get("USER"), os.environ.get("LOGNAME"), os.environ.get("USERNAME")} - {None, "", "root"}:
        text = re.sub(rf"\b{re.escape(str(name))}\b", "USER", text)
    return text


def _processor(detected: Detected) -> dict[str, Any]:
    cpu, host = detected.host.cpu, detected.host
    return {
        "model": cpu.model,
        "cores": cpu.cores,
        "usable_cores": cpu.usable_cores,
        "threads": cpu.threads,
        "instruction_sets": list(cpu.instruction_sets),
        "memory_gib": round(host.ram_total_bytes / GIB, 1),
        "memory_available_gib": round(host.ram_available_bytes / GIB, 1),
        "cpu_quota": host.cpu_quota,
        "found_by": "the operating system",
    }


def _gpu(gpu: Any) -> dict[str, Any]:
    return {
        "name": gpu.name,
        "memory_gib": round(gpu.total_bytes / GIB, 1) if gpu.total_bytes else None,
        "memory_free_gib": round(gpu.free_bytes / GIB, 1) if gpu.free_bytes else None,
        "driver": gpu.driver,
        "compute_capability": gpu.compute_capability,
        "busy": gpu.busy,
        "found_by": gpu.via,
    }


def _machine(detected: Detected) -> dict[str, Any]:
    try:
        return {"hardware": detected_hardware(detected).id, "fingerprint": fingerprint(detected)}
    except AdvisorError as error:
        return {"hardware": None, "fingerprint": fingerprint(detected), "problem": error.message}


def _profiles(detected: Detected) -> dict[str, Any]:
    fresh = fresh_profile(fingerprint(detected))
    stored = [{"name": item.name, "fingerprint": item.fingerprint, "taken": item.taken} for item in list_profiles()]
    return {"used_by_default": fresh.name if fresh else None, "stored": stored}
