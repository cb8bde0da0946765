"""Reads the environment that timings depend on: device, driver, versions, source code and clocks."""

import hashlib
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from advisor.backends.detection.detect import Detected, detect, detected_hardware, fingerprint
from benchmarks.harness.record import Environment

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("torch", "triton", "transformers", "numpy", "textual", "torchao", "gemlite", "flash-attn", "flash-linear-attention")
VARIABLES = ("OMP_", "KMP_", "GOMP_", "MKL_", "TRITON_", "CUDA_", "PYTORCH_", "ATEN_")
SOURCES = ("advisor/**/*.py", "benchmarks/**/*.py")


def read_environment(device: torch.device, *, dry: bool = False) -> Environment:
    """The environment of this process on `device`; `dry` marks a trial without meaningful timings."""
    machine = detect(with_torch=True)
    gpu = machine.gpus[0] if device.type == "cuda" and machine.gpus else None
    identity = {
        "fingerprint": fingerprint(machine) if gpu else fingerprint(_without_gpus(machine)),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else detected_hardware(_without_gpus(machine)).name,
        "driver": gpu.driver if gpu else None,
        "python": platform.python_version(),
        "packages": _packages(),
        "code": code_digest(),
        "threads": torch.get_num_threads(),
        "variables": {name: value for name, value in sorted(os.environ.items()) if name.startswith(VARIABLES)},
        "dry": dry,
    }
    id = hashlib.sha256(repr(sorted(identity.items())).encode()).hexdigest()[:12]
    return Environment.model_validate(
        identity
        | {
            "id": id,
            "commit": _commit(),
            "clocks": _clocks() if gpu else {},
            "load": tuple(round(load, 2) for load in os.getloadavg()),
            "command": (Path(sys.argv[0]).name, *sys.argv[1:]),
            "started": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
    )


def folder_name(environment: Environment) -> str:
    """The device's folder under `benchmarks/results`."""
    return "dry-run" if environment.dry else slug(environment.fingerprint)


def slug(fingerprint: str) -> str:
    """A fingerprint's kind of machine, as part of a path.

    >>> slug("gpu:h200-sxm-141g*1/sm90")
    'gpu-h200-sxm-141g-1'
    """
    return re.sub(r"[^a-z0-9]+", "-", fingerprint.split("/")[0]).strip("-")


def code_digest(root: Path = ROOT) -> str:
    """Digest of every source file that can affect a timing."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in SOURCES for path in root.glob(pattern)}):
        digest.update(f"{path.relative_to(root)}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _without_gpus(machine: Detected) -> Detected:
    return replace(machine, gpus=())


def _packages() -> Mapping[str, str]:
    installed = {}
    for name in PACKAGES:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    return installed


def _commit() -> str | None:
    """The commit that is checked out, with a mark where files differ from it; `None` outside of a repository."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )
    except OSError:
        return os.environ.get("BENCHMARK_COMMIT")
    return done.stdout.strip() or os.environ.get("BENCHMARK_COMMIT")


def _clocks() -> dict[str, float | None]:
    """Current clocks in MHz, power limit in watts and temperature in degrees Celsius, according to the driver."""
    names = ("clocks.sm", "clocks.mem", "clocks.max.sm", "power.limit", "temperature.gpu")
    try:
        done = subprocess.run(
            ["nvidia-smi", f"--query-gpu={','.join(names)}", "--format=csv,noheader,nounits"], capture_output=True, text=True, check=False
        )
    except OSError:
        return {}
    cells = done.stdout.splitlines()[0].split(",") if done.stdout else []
    return {name: _number(cell) for name, cell in zip(names, cells, strict=False)}


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None
