"""Time of a matrix product or an attention layer, interpolated between the points of a machine profile.

The *efficiency* relative to a roofline of the best rates in the table is interpolated in log space. Beyond the outermost point
it is constant, and no time is below the shortest one measured. At a measured point the result is the measured time.
"""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from math import exp, log

from advisor.profiles.formats import weight_format
from advisor.profiles.machine import AttentionPoint, GemmPoint

MEMO_ENTRIES = 200_000
"""Cached results per table; the cache is cleared when it is full."""


class GemmTable:
    """Time of matrix products of any shape and working set, from measured ones by weight format."""

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
        """Seconds of `m` rows by an `n` x `k` weight, in a step that reads `working_set_bytes` of weights in all.

        Raises `KeyError` where the format was not measured.
        """
        key = (format, m, n, k, working_set_bytes)
        cached = self._memo.get(key)
        if cached is None:
            if len(self._memo) >= MEMO_ENTRIES:
                self._memo.clear()
            cached = self._memo[key] = self._surfaces[format].seconds(
                _gemm_coordinates(m, n, k, working_set_bytes), 2.0 * m * n * k, _gemm_bytes(format, m, n, k)
            )
        return cached


class AttentionTable:
    """Time of attention layers of any shape, from measured ones by implementation, cache layout, cache format and phase."""

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
        """Seconds of one layer's attention over `batch` sequences of `q_tokens` new and `kv_tokens` total tokens each.

        Raises `KeyError` where this variant was not measured.
        """
        key = (implementation, layout, kv_format, phase, batch, q_tokens, kv_tokens, q_heads, kv_heads, head_dim)
        cached = self._memo.get(key)
        if cached is None:
            if len(self._memo) >= MEMO_ENTRIES:
                self._memo.clear()
            cached = self._memo[key] = self._surfaces[(implementation, layout, kv_format, phase)].seconds(
                _attention_coordinates(batch, q_tokens, kv_tokens, q_heads, kv_heads, head_dim),
                _attention_flops(batch, q_tokens, kv_tokens, q_heads, head_dim),
                _attention_bytes(kv_format, batch, kv_tokens, kv_heads, head_dim),
            )
        return cached


@dataclass(frozen=True, slots=True)
class _Surface:
    """Log efficiency over coordinates, and the roofline that it is relative to."""

    efficiencies: "_Node"
    flops_per_s: float
    bytes_per_s: float
    shortest_s: float

    def seconds(self, coordinates: tuple[float, ...], flops: float, moved_bytes: float) -> float:
        roof = max(flops / self.flops_per_s, moved_bytes / self.bytes_per_s)
        return max(roof / exp(self.efficiencies.at(coordinates)), self.shortest_s)


class _Node:
    """A tree for piecewise linear interpolation, one coordinate per level; outside a level's range its nearest branch counts."""

    __slots__ = ("_keys", "_values")

    def __init__(self, points: list[tuple[tuple[float, ...], float]], depth: int = 0) -> None:
        branches: dict[float, list[tuple[tuple[float, ...], float]]] = {}
        for point in points:
            branches.setdefault(point[0][depth], []).append(point)
        self._keys = sorted(branches)
        last = depth + 1 == len(points[0][0])
        self._values: list[_Node | float] = [_mean(branches[key]) if last else _Node(branches[key], depth + 1) for key in self._keys]

    def at(self, coordinates: tuple[float, ...], depth: int = 0) -> float:
        """The value at `coordinates`; outside the measured range, the value at its edge."""
        keys, x = self._keys, coordinates[depth]
        right = bisect_left(keys, x)
        if right == len(keys):
            return self._branch(right - 1, coordinates, depth)
        if right == 0 or keys[right] == x:
            return self._branch(right, coordinates, depth)
        share = (x - keys[right - 1]) / (keys[right] - keys[right - 1])
        below, above = self._branch(right - 1, coordinates, depth), self._branch(right, coordinates, depth)
        return below + share * (above - below)

    def _branch(self, index: int, coordinates: tuple[float, ...], depth: int) -> float:
        value = self._values[index]
        return value if isinstance(value, float) else value.at(coordinates, depth + 1)


def _mean(points: list[tuple[tuple[float, ...], float]]) -> float:
    return sum(value for _, value in points) / len(points)


def _surface(rows: list[tuple[tuple[float, ...], float, float, float]]) -> _Surface:
    """The surface of rows of (coordinates, flops, bytes, seconds); the roofline is the best rates among them."""
    flops_per_s = max(flops / seconds for _, flops, _, seconds in rows)
    bytes_per_s = max(moved / seconds for _, _, moved, seconds in rows)
    efficiencies = [
        (coordinates, log(max(flops / flops_per_s, moved / bytes_per_s) / seconds)) for coordinates, flops, moved, seconds in rows
    ]
    return _Surface(_Node(efficiencies), flops_per_s, bytes_per_s, min(row[3] for row in rows))


def _gemm_surface(name: str, points: list[GemmPoint]) -> _Surface:
    return _surface(
        [
            (
                _gemm_coordinates(point.m, point.n, point.k, point.working_set_bytes),
                2.0 * point.m * point.n * point.k,
                _gemm_bytes(name, point.m, point.n, point.k),
                point.seconds,
            )
            for point in points
        ]
    )


def _gemm_coordinates(m: int, n: int, k: int, working_set_bytes: float) -> tuple[float, ...]:
    """Size, aspect ratio, working set, rows: rows last, so that every measured shape has its own curve over them."""
    return (log(n * k), log(n / k), log(max(working_set_bytes, 1.0)), log(m))


def _gemm_bytes(format: str, m: int, n: int, k: int) -> float:
    """Weights once, activations in and out at two bytes."""
    return n * k * weight_format(format).bytes_per_element(row_elements=k) + 2.0 * m * (n + k)


def _attention_surface(points: list[AttentionPoint]) -> _Surface:
    return _surface(
        [
            (
                _attention_coordinates(point.batch, point.q_tokens, point.kv_tokens, point.q_heads, point.kv_heads, point.head_dim),
                _attention_flops(point.batch, point.q_tokens, point.kv_tokens, point.q_heads, point.head_dim),
                _attention_bytes(point.kv_format, point.batch, point.kv_tokens, point.kv_heads, point.head_dim),
                point.seconds,
            )
            for point in points
        ]
    )


def _attention_coordinates(batch: int, q_tokens: int, kv_tokens: int, q_heads: int, kv_heads: int, head_dim: int) -> tuple[float, ...]:
    """Width, query heads per key-value head, head size, batch, new tokens, ratio of context to new tokens."""
    return (log(q_heads * head_dim), log(q_heads / kv_heads), log(head_dim), log(batch), log(q_tokens), log(kv_tokens / q_tokens))


def _attention_flops(batch: int, q_tokens: int, kv_tokens: int, q_heads: int, head_dim: int) -> float:
    """Operations of the scores and their product with the values; causal among the new tokens."""
    visible = kv_tokens - (q_tokens - 1) / 2
    return 4.0 * batch * q_tokens * max(visible, 1.0) * q_heads * head_dim


def _attention_bytes(kv_format: str, batch: int, kv_tokens: int, kv_heads: int, head_dim: int) -> float:
    """Keys and values, read once."""
    return 2.0 * batch * kv_tokens * kv_heads * head_dim * weight_format(kv_format).bytes_per_element(row_elements=head_dim)
