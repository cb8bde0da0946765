"""What one device holds of layers and heads that a replica divides."""

import math

from advisor.backends.deployment import Deployment


def stage_share(deployment: Deployment) -> float:
    """Share of the layers on the fullest pipeline stage, which holds whole layers only."""
    layers = len(deployment.model.layers)
    return math.ceil(layers / deployment.parallel.pipeline) / layers


def heads_per_rank(heads: int, ranks: int) -> int:
    """Heads on one device of a tensor-parallel group: whole ones, at least one, so that they are replicated over surplus ranks."""
    return math.ceil(heads / ranks)
