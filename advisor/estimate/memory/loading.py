"""What an engine holds of a model's weights beyond the checkpoint's bytes: matrices padded for its kernels."""

from functools import lru_cache
from math import lcm

from advisor.backends.deployment import Deployment, Parallel, Weights
from advisor.estimate.memory.sharding import stage_share
from advisor.estimate.operators.fusion import fused
from advisor.estimate.operators.structure import expert_devices, is_routed, stored_format, structure_of
from advisor.profiles.architectures.layers import Matrix
from advisor.profiles.architectures.spec import ModelSpec
from advisor.profiles.engine_parts import Repack
from advisor.profiles.engines import load_engine
from advisor.profiles.formats import Format, weight_format


def padding_bytes(deployment: Deployment) -> tuple[float, float, float]:
    """Bytes on the fullest device that kernels of the engine add to the weights by padding: at least, usually and at most."""
    loading, share = load_engine(deployment.engine).loading, stage_share(deployment)
    tile = loading.tiles.get(deployment.weights.format)
    tiled = _tile_bytes(deployment.model, deployment.weights, deployment.parallel, tile) if tile else 0.0
    if not loading.repacks:
        return tiled * share, tiled * share, tiled * share
    least, usual, most = _padding_bytes(deployment.model, deployment.weights, deployment.parallel, loading.repacks)
    return (tiled + least) * share, (tiled + usual) * share, (tiled + most) * share


@lru_cache(maxsize=1024)
def _tile_bytes(model: ModelSpec, weights: Weights, parallel: Parallel, tile: tuple[int, int]) -> float:
    """Bytes by which whole tiles and whole groups exceed the matrices in the format of `weights`, on one device.

    The gate and up projections of an expert are one matrix, as transformers stores them.
    """
    deployment, total = Deployment(model, weights), 0.0
    stored = [(matrix, count, stored_format(deployment, matrix)) for matrix, count in structure_of(model).matrices]
    routed = fused(entry for entry in stored if is_routed(entry[0]))
    for matrix, count, name in (*routed, *(entry for entry in stored if not is_routed(entry[0]))):
        if name.startswith(weights.format):
            devices = expert_devices(parallel) if is_routed(matrix) else parallel.tensor
            total += count * matrix.copies * _surplus_bytes(matrix, weight_format(name), tile) / devices
    return total


def _surplus_bytes(matrix: Matrix, format: Format, tile: tuple[int, int]) -> float:
    n, k = _whole(matrix.n, tile[0]), _whole(matrix.k, lcm(tile[1], format.group_size or 1))
    return format.matrix_bytes(n, k) - format.matrix_bytes(matrix.n, matrix.k)


def _whole(features: int, multiple: int) -> int:
    return -(-features // multiple) * multiple


def tower_bytes(deployment: Deployment) -> float:
    """Bytes on the fullest device of encoders of images and sound, where the engine loads them; a tensor-parallel group divides them."""
    loads = load_engine(deployment.engine).loading.towers
    return deployment.model.tower_bytes / deployment.parallel.tensor if loads else 0.0


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
