"""Join projections of the same input into one matrix product, as vLLM does (QKVParallelLinear, MergedColumnParallelLinear)."""

from collections.abc import Iterable
from dataclasses import replace

from advisor.profiles.architectures.layers import Matrix

Product = tuple[Matrix, int, str]
"""A matrix, how often it occurs, and the format it is stored in."""
JOINED = (
    frozenset({"q_proj", "k_proj", "v_proj"}),
    frozenset({"gate_proj", "up_proj"}),
    frozenset({"w1", "w3"}),
    frozenset({"q_a_proj", "kv_a_proj_with_mqa"}),
)
"""Names of matrices that are computed as one product."""


def fused(products: Iterable[Product]) -> tuple[Product, ...]:
    """Replace the products of each set in `JOINED` by one with the sum of their output features, where all else is equal."""
    joined: dict[object, Product] = {}
    for matrix, count, format in products:
        names = next((names for names in JOINED if matrix.name in names), matrix.name)
        key = (names, matrix.k, matrix.kind, matrix.copies, matrix.active, count, format)
        earlier = joined.get(key)
        joined[key] = (matrix if earlier is None else replace(earlier[0], n=earlier[0].n + matrix.n), count, format)
    return tuple(joined.values())
