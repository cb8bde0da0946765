"""Whether a setting lies within what predictions were compared with, and what of it does not.

`profiles/evidence/domain.csv` says what was compared, written by `tools/calibrate.py`. It is about predictions from catalogues and data
sheets: a machine's own profile is measured where it is used.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from advisor.backends.deployment import Deployment
from advisor.estimate.uncertainty.ranges import model_kind
from advisor.profiles.evidence import table
from advisor.profiles.metrics import Basis
from advisor.profiles.request import Load, Workload

ENGINE, MODEL, WEIGHTS = "engine", "model", "weights"
IN_FLIGHT, CONTEXT, DEVICES = "in_flight", "context_tokens", "devices"
"""Dimensions of a setting: three with names, three with extents."""
_WORDS = {
    ENGINE: "engine {}",
    MODEL: "{} models",
    WEIGHTS: "{} weights",
    IN_FLIGHT: "{:,.0f} requests in flight ({:,.0f} to {:,.0f} were)",
    CONTEXT: "{:,.0f} tokens a request ({:,.0f} to {:,.0f} were)",
    DEVICES: "{:,.0f} devices ({:,.0f} to {:,.0f} were)",
}


@dataclass(frozen=True, slots=True)
class CalibrationDomain:
    """Everything that predictions were compared on."""

    names: frozenset[tuple[str, str]]
    """Dimension and name."""
    extents: tuple[tuple[str, float, float], ...]
    """Dimension, its least and its most."""


def extrapolation_warning(basis: Basis, deployment: Deployment, workload: Workload) -> str | None:
    """A sentence when the setting is unlike what was compared with measurements, `None` when it is not."""
    gaps = list(extrapolations(basis, deployment, workload))
    if basis is Basis.DATASHEET:
        gaps.append("this device, none of whose architecture's kernels were measured")
    return f"never compared with measurements: {'; '.join(gaps)}" if gaps else None


def extrapolations(basis: Basis, deployment: Deployment, workload: Workload) -> Iterator[str]:
    """What of a setting was never compared, a phrase each: ranges are wider for it."""
    if basis is Basis.PROFILED:
        return
    known = calibration_domain()
    for dimension, name in names_of(deployment):
        if (dimension, name) not in known.names:
            yield _WORDS[dimension].format(name)
    sizes = dict(sizes_of(deployment, workload))
    for dimension, least, most in known.extents:
        if dimension in sizes and not least <= sizes[dimension] <= most:
            yield _WORDS[dimension].format(sizes[dimension], least, most)


def names_of(deployment: Deployment) -> Iterator[tuple[str, str]]:
    """The dimensions of a setting that have names."""
    yield ENGINE, deployment.engine
    yield MODEL, model_kind(deployment.model)
    yield WEIGHTS, deployment.weights.format


def sizes_of(deployment: Deployment, workload: Workload) -> Iterator[tuple[str, int]]:
    """The dimensions of a setting that are sizes."""
    if workload.load in (Load.CLOSED, Load.BURST) and workload.concurrency is not None:
        yield IN_FLIGHT, workload.concurrency
    yield CONTEXT, workload.context_tokens
    parallel = deployment.parallel
    yield DEVICES, parallel.tensor * parallel.pipeline * parallel.data


@lru_cache(maxsize=1)
def calibration_domain() -> CalibrationDomain:
    """What the shipped ranges were set from."""
    rows = table("domain.csv")
    names = frozenset((row["dimension"], row["name"]) for row in rows if row["name"])
    return CalibrationDomain(names, tuple((row["dimension"], float(row["least"]), float(row["most"])) for row in rows if not row["name"]))
