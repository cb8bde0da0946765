"""Projections of the same input as one product, as serving engines load them (vLLM's QKVParallelLinear, MergedColumnParallelLinear)."""

from collections.abc import Iterable
from dataclasses import replace

from advisor.profiles.architectures.layers import Matrix

Product = tuple[Matrix, int, str]
"""A matrix, how often it occurs, and the format it is stored in."""
TOGETHER = (
    frozenset({"q_proj", "k_proj", "v_proj"}),
    frozenset({"gate_proj", "up_proj"}),
    frozenset({"w1", "w3"}),
    frozenset({"q_a_proj", "kv_a_proj_with_mqa"}),
)
"""Names of matrices that one product stands for."""


def fused(products: Iterable[Product]) -> tuple[Product, ...]:
    """Join the products of one input that are alike in everything but their width."""
    joined: dict[object, Product] = {}
    for matrix, count, format in products:
        names = next((names for names in TOGETHER if matrix.name in names), matrix.name)
        key = (names, matrix.k, matrix.kind, matrix.copies, matrix.active, count, format)
        known = joined.get(key)
        joined[key] = (matrix if known is None else replace(known[0], n=known[0].n + matrix.n), count, format)
    return tuple(joined.values())
