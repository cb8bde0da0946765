"""Time of a matrix product or an attention layer, read between the points that a machine profile measured.

Between points the *efficiency* is interpolated, in log space, against a roofline taken from the table itself; beyond the
outermost point the efficiency is held, and no time falls below the shortest one measured. A measured point returns its own time.
"""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from math import exp, log

from advisor.profiles.formats import weight_format
from advisor.profiles.machine import AttentionPoint, GemmPoint

MEMO_ENTRIES = 200_000
"""Answers kept per table; beyond that the memory of old answers is dropped."""


class GemmTable:
    """Measured matrix products, by weight format; answers for any shape and working set."""

    def __init__(self, points: Iterable[GemmPoint]) -> None:
        grouped: dict[str, list[GemmPoint]] = {}
        for point in points:
            grouped.setdefault(point.format, []).append(point)
        self._surfaces = {name: _gemm_surface(name, group) for name, group in grouped.items()}
        self._memo: dict[tuple[str, int, int, int, float], float] = {}

    @property
    def formats(self) -> frozenset[str]:
        """Weight formats that were measured."""
        return frozenset(self._surfaces)

    def seconds(self, format: str, m: int, n: int, k: int, working_set_bytes: float) -> float:
        """Time of `m` rows through an `n` by `k` weight while the step touches `working_set_bytes` of weights in all.

        Raises `KeyError` when the format was not measured.
        """
        key = (format, m, n, k, working_set_bytes)
        known = self._memo.get(key)
        if known is None:
            if len(self._memo) >= MEMO_ENTRIES:
                self._memo.clear()
            known = self._memo[key] = self._surfaces[format].seconds(
                _gemm_place(m, n, k, working_set_bytes), 2.0 * m * n * k, _gemm_bytes(format, m, n, k)
            )
        return known


class AttentionTable:
    """Measured attention layers, by implementation, cache layout, cache format and phase."""

    def __init__(self, points: Iterable[AttentionPoint]) -> None:
        grouped: dict[tuple[str, str, str, str], list[AttentionPoint]] = {}
        for point in points:
            grouped.setdefault((point.implementation, point.layout, point.kv_format, point.phase), []).append(point)
        self._surfaces = {key: _attention_surface(group) for key, group in grouped.items()}
        self._memo: dict[tuple[str | int, ...], float] = {}

    @property
    def variants(self) -> frozenset[tuple[str, str, str, str]]:
        """Every (implementation, layout, kv format, phase) that was measured."""
        return frozenset(self._surfaces)

    def seconds(
        self,
        implementation: str,
        layout: str,
        kv_format: str,
        phase: str,
        *,
        batch: int,
        q_tokens: int,
        kv_tokens: int,
        q_heads: int,
        kv_heads: int,
        head_dim: int,
    ) -> float:
        """Time of one layer's attention over `batch` sequences of `q_tokens` new and `kv_tokens` total tokens each.

        Raises `KeyError` when this variant was not measured.
        """
        key = (implementation, layout, kv_format, phase, batch, q_tokens, kv_tokens, q_heads, kv_heads, head_dim)
        known = self._memo.get(key)
        if known is None:
            if len(self._memo) >= MEMO_ENTRIES:
                self._memo.clear()
            known = self._memo[key] = self._surfaces[(implementation, layout, kv_format, phase)].seconds(
                _attention_place(batch, q_tokens, kv_tokens, q_heads, kv_heads, head_dim),
                _attention_flops(batch, q_tokens, kv_tokens, q_heads, head_dim),
                _attention_bytes(kv_format, batch, kv_tokens, kv_heads, head_dim),
            )
        return known


@dataclass(frozen=True, slots=True)
class _Surface:
    """Efficiency over some coordinates, with the roofline that it is relative to."""

    efficiencies: "_Node"
    flops_per_s: float
    bytes_per_s: float
    shortest_s: float

    def seconds(self, place: tuple[float, ...], flops: float, moved_bytes: float) -> float:
        roof = max(flops / self.flops_per_s, moved_bytes / self.bytes_per_s)
        return max(roof / exp(self.efficiencies.at(place)), self.shortest_s)


class _Node:
    """Piecewise linear interpolation, one coordinate per level; missing corners fall back to the nearest measured edge."""

    __slots__ = ("_keys", "_values")

    def __init__(self, points: list[tuple[tuple[float, ...], float]], depth: int = 0) -> None:
        branches: dict[float, list[tuple[tuple[float, ...], float]]] = {}
        for point in points:
            branches.setdefault(point[0][depth], []).append(point)
        self._keys = sorted(branches)
        last = depth + 1 == len(points[0][0])
        self._values: list[_Node | float] = [_mean(branches[key]) if last else _Node(branches[key], depth + 1) for key in self._keys]

    def at(self, place: tuple[float, ...], depth: int = 0) -> float:
        """The value at `place`; outside the measured range, the value at its edge."""
        keys, where = self._keys, place[depth]
        right = bisect_left(keys, where)
        if right == len(keys):
            return self._branch(right - 1, place, depth)
        if right == 0 or keys[right] == where:
            return self._branch(right, place, depth)
        share = (where - keys[right - 1]) / (keys[right] - keys[right - 1])
        below, above = self._branch(right - 1, place, depth), self._branch(right, place, depth)
        return below + share * (above - below)

    def _branch(self, index: int, place: tuple[float, ...], depth: int) -> float:
        value = self._values[index]
        return value if isinstance(value, float) else value.at(place, depth + 1)


def _mean(points: list[tuple[tuple[float, ...], float]]) -> float:
    return sum(value for _, value in points) / len(points)


def _surface(rows: list[tuple[tuple[float, ...], float, float, float]]) -> _Surface:
    """Build from rows of (place, flops, bytes, seconds); the roofs are the best rates seen."""
    flops_per_s = max(flops / seconds for _, flops, _, seconds in rows)
    bytes_per_s = max(moved / seconds for _, _, moved, seconds in rows)
    efficiencies = [(place, log(max(flops / flops_per_s, moved / bytes_per_s) / seconds)) for place, flops, moved, seconds in rows]
    return _Surface(_Node(efficiencies), flops_per_s, bytes_per_s, min(row[3] for row in rows))


def _gemm_surface(name: str, points: list[GemmPoint]) -> _Surface:
    return _surface(
        [
            (
                _gemm_place(point.m, point.n, point.k, point.working_set_bytes),
                2.0 * point.m * point.n * point.k,
                _gemm_bytes(name, point.m, point.n, point.k),
                point.seconds,
            )
            for point in points
        ]
    )


def _gemm_place(m: int, n: int, k: int, working_set_bytes: float) -> tuple[float, ...]:
    """Size, aspect, working set, rows: the coarsest grid first, so that every shape carries its own curve over rows."""
    return (log(n * k), log(n / k), log(max(working_set_bytes, 1.0)), log(m))


def _gemm_bytes(format: str, m: int, n: int, k: int) -> float:
    """Weights once, activations in and out in two bytes."""
    return n * k * weight_format(format).bytes_per_element(row_elements=k) + 2.0 * m * (n + k)


def _attention_surface(points: list[AttentionPoint]) -> _Surface:
    return _surface(
        [
            (
                _attention_place(point.batch, point.q_tokens, point.kv_tokens, point.q_heads, point.kv_heads, point.head_dim),
                _attention_flops(point.batch, point.q_tokens, point.kv_tokens, point.q_heads, point.head_dim),
                _attention_bytes(point.kv_format, point.batch, point.kv_tokens, point.kv_heads, point.head_dim),
                point.seconds,
            )
            for point in points
        ]
    )


def _attention_place(batch: int, q_tokens: int, kv_tokens: int, q_heads: int, kv_heads: int, head_dim: int) -> tuple[float, ...]:
    """Width, sharing, head size, batch, new tokens, and how much longer the context is than the new tokens."""
    return (log(q_heads * head_dim), log(q_heads / kv_heads), log(head_dim), log(batch), log(q_tokens), log(kv_tokens / q_tokens))


def _attention_flops(batch: int, q_tokens: int, kv_tokens: int, q_heads: int, head_dim: int) -> float:
    """Scores and their product with the values, over the causal half of the new tokens."""
    seen = kv_tokens - (q_tokens - 1) / 2
    return 4.0 * batch * q_tokens * max(seen, 1.0) * q_heads * head_dim


def _attention_bytes(kv_format: str, batch: int, kv_tokens: int, kv_heads: int, head_dim: int) -> float:
    """Keys and values, read once."""
    return 2.0 * batch * kv_tokens * kv_heads * head_dim * weight_format(kv_format).bytes_per_element(row_elements=head_dim)
