"""The record of an applied plan: every rung of the ladder, predicted and measured. Written as `run.json`."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from advisor.profiles.errors import AdvisorError, ExitCode
from advisor.profiles.files import FILE_NAME, is_folder, read_text
from advisor.profiles.formats import GIB
from advisor.profiles.frozen import Frozen
from advisor.profiles.json_text import parse_json
from advisor.profiles.metrics import Metrics, Sample
from advisor.profiles.request import Request

RUN_FILE = "run.json"
WEIGHTS_TOLERANCE = 0.01
"""Largest relative difference of held and predicted bytes of weights that is no error: buffers that no format describes."""
_MAX_BYTES = 256 * 2**20
"""Runs contain raw samples: about 200 kB for a thousand requests."""


class RungStatus(StrEnum):
    """The outcome of a rung."""

    DONE = "done"
    FAILED = "failed"
    OUT_OF_MEMORY = "out-of-memory"
    CANCELLED = "cancelled"
    NOT_RUN = "not-run"


class Environment(Frozen):
    """Machine and software that a run was measured on."""

    fingerprint: str
    device: str
    threads: int
    python: str
    packages: dict[str, str]
    """Package name to version, of torch, transformers and others that measurements depend on."""
    profiled_pace_s: float | None = Field(default=None, gt=0)
    """`pace_s` of the machine profile behind the predictions; `None` without one."""
    commit: str | None = None
    busy_share: float | None = Field(default=None, ge=0, le=1)
    """Share of the processors that other processes used when the run began; `None` where the system does not say."""


class Repeat(Frozen):
    """What one repeat of the workload took."""

    throughput_tok_s: float = Field(gt=0)
    ttft_ms_mean: float = Field(gt=0)
    tpot_ms_mean: float | None = Field(default=None, gt=0)
    """`None` where requests have one output token."""


class Recipe(Frozen):
    """How every rung is measured."""

    requests: int
    warmup_requests: int
    repeats: int
    seed: int
    quality_text: str
    """Name of the text that quality was measured on."""
    quality_tokens: int
    interleaved: bool = False
    """Whether repeats of the full stack and of the baseline alternate, in two processes that are both loaded."""


class HeldWeights(Frozen):
    """The weights in memory once a rung's techniques are applied, against their prediction, which follows from shapes and formats."""

    predicted_bytes: int = Field(ge=0)
    held_bytes: int = Field(ge=0)
    """Bytes of the storage of every parameter and buffer, a draft's included."""
    is_fault: bool
    """Whether they differ by more than `WEIGHTS_TOLERANCE`: an error of this program."""

    @classmethod
    def of(cls, predicted: Metrics, measured: Metrics | None) -> "HeldWeights | None":
        """From the metrics of a rung; `None` where one of them has no weights."""
        if measured is None or measured.weights_gib is None or predicted.weights_gib is None:
            return None
        expected, actual = (round(value.value * GIB) for value in (predicted.weights_gib, measured.weights_gib))
        return cls(predicted_bytes=expected, held_bytes=actual, is_fault=abs(expected - actual) > WEIGHTS_TOLERANCE * actual)

    @property
    def fault(self) -> str | None:
        """The error as a sentence; `None` where there is none."""
        if not self.is_fault:
            return None
        return (
            f"the weights take {self.held_bytes:,} bytes and {self.predicted_bytes:,} were predicted: an error of advisor, please report it"
        )


class Rung(Frozen):
    """One step of the ladder: the baseline, or a technique added to those before it."""

    name: str
    """`baseline`, or the technique that this rung adds."""
    techniques: tuple[str, ...]
    status: RungStatus
    predicted: Metrics
    measured: Metrics | None = None
    weights: HeldWeights | None = None
    """`None` where the rung did not come as far as its weights, and in runs of earlier versions."""
    samples: tuple[Sample, ...] = ()
    repeats: tuple[Repeat, ...] = ()
    baseline_repeats: tuple[Repeat, ...] = ()
    """Repeats of the baseline that alternated with those of this rung, in pairs; empty where none did."""
    choices: tuple[str, ...] = ()
    """Kernels and settings that were chosen by timing them in the run, each with its reason."""
    pace_s: float | None = Field(default=None, gt=0)
    """Mean seconds of the fixed loop of `MachineProfile.pace_s` while this rung was served."""
    error: str | None = None
    seconds: float | None = None
    """Wall time of the child process."""


class Run(Frozen):
    """One `advisor apply`: the file `run.json`."""

    kind: str = "Run"
    format: str = "1.0"
    id: str
    plan_id: Annotated[str, Field(pattern=FILE_NAME)]
    title: str
    model: str
    request: Request
    environment: Environment
    recipe: Recipe
    rungs: tuple[Rung, ...]
    created: str

    @property
    def paces(self) -> tuple[float, ...]:
        """CPU speed in each rung that was served, relative to the profile's; empty where it was not profiled."""
        profiled = self.environment.profiled_pace_s
        return () if profiled is None else tuple(profiled / rung.pace_s for rung in self.rungs if rung.pace_s is not None)


def read_run(path: Path) -> Run:
    """The run in a file, or in the folder that `advisor apply` wrote.

    Raises `AdvisorError`: what `read_text` raises, and `run-file` for a file that is no run.
    """
    file = path / RUN_FILE if is_folder(path) else path
    text = read_text(file, what="run", limit_bytes=_MAX_BYTES)
    try:
        return Run.model_validate(parse_json(text))
    except json.JSONDecodeError as error:
        raise _no_run(file, f"not JSON: {error.msg}", error.lineno) from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise _no_run(file, f"`{field}`: {first['msg'].lower()}", None) from error
    except ValueError as error:
        raise _no_run(file, str(error), None) from error


def _no_run(file: Path, problem: str, line: int | None) -> AdvisorError:
    where = f"{file}:{line}" if line else str(file)
    return AdvisorError(
        "run-file",
        f"{where} is no run file: {problem}",
        exit_code=ExitCode.USAGE,
        help=("advisor apply plan.yaml   writes one",),
        file=str(file),
        line=line,
    )
