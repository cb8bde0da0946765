"""The calibration domain: the settings whose predictions were compared with measurements, and in what a setting is outside of it.

`tools/calibrate.py` writes it to `profiles/evidence/domain.csv`. It concerns predictions from catalogue and data sheet: a profile was
measured on the machine that is planned for.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from advisor.backends.deployment import Deployment
from advisor.estimate.operators.structure import structure_of
from advisor.profiles.architectures.layers import LatentAttention, RecurrentMixer
from advisor.profiles.architectures.spec import ModelSpec
from advisor.profiles.evidence import table
from advisor.profiles.formats import weight_format
from advisor.profiles.metrics import Basis
from advisor.profiles.request import Load, Workload

ENGINE, MODEL, WEIGHTS = "engine", "model", "weights"
IN_FLIGHT, CONTEXT, DEVICES = "in_flight", "context_tokens", "devices"
"""Dimensions of a setting: names, then sizes."""
_PHRASES = {
    ENGINE: "engine {}",
    MODEL: "{} models",
    WEIGHTS: "{} weights",
    IN_FLIGHT: "{:,.0f} requests in flight ({:,.0f} to {:,.0f} were)",
    CONTEXT: "{:,.0f} tokens a request ({:,.0f} to {:,.0f} were)",
    DEVICES: "{:,.0f} devices ({:,.0f} to {:,.0f} were)",
}


@dataclass(frozen=True, slots=True)
class CalibrationDomain:
    """The settings whose predictions were compared with measurements."""

    names: frozenset[tuple[str, str]]
    """Dimension and name."""
    extents: tuple[tuple[str, float, float], ...]
    """Dimension of a size, its smallest and its largest value."""


def extrapolation_warning(basis: Basis, deployment: Deployment, workload: Workload) -> str | None:
    """A sentence that names what of a setting is outside of the calibration domain; `None` where nothing is."""
    outside = list(extrapolations(basis, deployment, workload))
    if basis is Basis.DATASHEET:
        outside.append("this device, none of whose architecture's kernels were measured")
    return f"never compared with measurements: {'; '.join(outside)}" if outside else None


def extrapolations(basis: Basis, deployment: Deployment, workload: Workload) -> Iterator[str]:
    """A phrase for each dimension of a setting outside of the calibration domain; none for a profiled machine."""
    if basis is Basis.PROFILED:
        return
    domain = calibration_domain()
    for dimension, name in names_of(deployment):
        if (dimension, name) not in domain.names:
            yield _PHRASES[dimension].format(name)
    sizes = dict(sizes_of(deployment, workload))
    for dimension, least, most in domain.extents:
        if dimension in sizes and not least <= sizes[dimension] <= most:
            yield _PHRASES[dimension].format(sizes[dimension], least, most)


def names_of(deployment: Deployment) -> Iterator[tuple[str, str]]:
    """Dimension and name of a setting's engine, kind of model and format of weights."""
    yield ENGINE, deployment.engine
    yield MODEL, model_kind(deployment.model)
    yield WEIGHTS, weight_format(deployment.weights.format).family


def sizes_of(deployment: Deployment, workload: Workload) -> Iterator[tuple[str, int]]:
    """Dimension and value of a setting's sizes; requests in flight only where the workload states them."""
    if workload.load in (Load.CLOSED, Load.BURST) and workload.concurrency is not None:
        yield IN_FLIGHT, workload.concurrency
    yield CONTEXT, workload.context_tokens
    parallel = deployment.parallel
    yield DEVICES, parallel.tensor * parallel.pipeline * parallel.data


@lru_cache(maxsize=256)
def model_kind(model: ModelSpec) -> str:
    """The kind of a model by its least certain part: `recurrent`, `latent` (MLA), `experts` or `dense`."""
    structure = structure_of(model)
    mixers = {type(mixer) for mixer, _ in structure.mixers}
    if RecurrentMixer in mixers:
        return "recurrent"
    if LatentAttention in mixers:
        return "latent"
    return "experts" if structure.expert_layers else "dense"


@lru_cache(maxsize=1)
def calibration_domain() -> CalibrationDomain:
    """The calibration domain of the shipped ranges."""
    rows = table("domain.csv")
    names = frozenset((row["dimension"], row["name"]) for row in rows if row["name"])
    return CalibrationDomain(names, tuple((row["dimension"], float(row["least"]), float(row["most"])) for row in rows if not row["name"]))
