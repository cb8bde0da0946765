"""What an engine holds of a model's weights beyond the checkpoint's bytes: matrices of experts padded for its kernels."""

from functools import lru_cache

from advisor.backends.deployment import Deployment, Parallel, Weights
from advisor.estimate.memory.sharding import stage_share
from advisor.estimate.operators.structure import expert_devices, is_routed, stored_format, structure_of
from advisor.profiles.architectures.spec import ModelSpec
from advisor.profiles.engine_parts import Repack
from advisor.profiles.engines import load_engine
from advisor.profiles.formats import weight_format


def padding_bytes(deployment: Deployment) -> tuple[float, float, float]:
    """Bytes on the fullest device that kernels of the engine add to the weights by padding: at least, usually and at most."""
    repacks = load_engine(deployment.engine).loading.repacks
    if not repacks:
        return 0.0, 0.0, 0.0
    least, usual, most = _padding_bytes(deployment.model, deployment.weights, deployment.parallel, repacks)
    share = stage_share(deployment)
    return least * share, usual * share, most * share


@lru_cache(maxsize=1024)
def _padding_bytes(model: ModelSpec, weights: Weights, parallel: Parallel, repacks: tuple[Repack, ...]) -> tuple[float, float, float]:
    """The padding of all layers on one device; a tensor-parallel group divides the inner size of each expert."""
    deployment, by_format = Deployment(model, weights), {repack.format: repack for repack in repacks}
    ranks = parallel.tensor if parallel.expert <= parallel.tensor else 1
    least = usual = most = 0.0
    for matrix, count in structure_of(model).matrices:
        repack = by_format.get(stored_format(deployment, matrix)) if is_routed(matrix) else None
        if repack is None:
            continue
        hidden, inner = (matrix.n, matrix.k) if matrix.name == "down_proj" else (matrix.k, matrix.n)
        size = matrix.n * matrix.k * weight_format(repack.format).bytes_per_element(row_elements=matrix.k)
        stored = count * matrix.copies * size / expert_devices(parallel)
        shares = repack.shares(hidden, max(inner // ranks, 1))
        least, usual, most = (total + stored * (share - 1) for total, share in zip((least, usual, most), shares, strict=True))
    return least, usual, most
