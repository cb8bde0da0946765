"""Chooses the fastest exact attention implementation for each class of shapes, by timing all of them once before serving."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import inf, log2

import torch
from torch import Tensor

from advisor.backends.runtime.attention.exact import Call, Implementation, implementations
from advisor.kernels.launch_sizes import power_of_two

REPEATS = 3
"""Timed calls after a warm-up; the least time counts."""
SLOW_S = 0.02
"""A call that takes longer is timed once."""


@dataclass(frozen=True, slots=True)
class ShapeClass:
    """Calls that share one choice: sequences, new tokens and cached tokens rounded up to powers of two."""

    device: str
    dtype: str
    is_plain: bool
    is_causal: bool
    scaled: bool
    """Whether the cache has scales."""
    heads: int
    kv_heads: int
    width: int
    sequences: int
    tokens: int
    keys: int

    @property
    def description(self) -> str:
        """The shape in words."""
        what = "whole prompts" if self.is_causal else "steps"
        return f"{what} of up to {self.sequences} x {self.tokens} tokens that attend to up to {self.keys}"


@dataclass(frozen=True, slots=True)
class TunedChoice:
    """The time of each implementation for a shape, in seconds; `inf` for one that failed."""

    shape: ShapeClass
    seconds: Mapping[str, float]

    @property
    def implementation(self) -> str:
        """The fastest implementation."""
        return min(self.seconds, key=lambda name: self.seconds[name])

    @property
    def reason(self) -> str:
        """The choice and all times in a sentence."""
        times = ", ".join(
            f"{name} {1e6 * took:.0f} us" for name, took in sorted(self.seconds.items(), key=lambda item: item[1]) if took < inf
        )
        failed = [name for name, took in self.seconds.items() if took == inf]
        return f"{self.shape.description}: {self.implementation} ({times}{'; not able: ' + ', '.join(failed) if failed else ''})"


@dataclass(slots=True)
class Autotuner:
    """Caches the fastest implementation for each shape. Measures only within `tuning`, so that no request waits for it."""

    clock: Callable[[], float] = time.perf_counter
    candidates: Callable[[Call], Mapping[str, Implementation]] = implementations
    """The implementations to choose from, by name, for a call."""
    choices: dict[ShapeClass, TunedChoice] = field(default_factory=dict)
    _until: float = -inf
    _nearest: dict[ShapeClass, str] = field(default_factory=dict)

    def compute(self, call: Call) -> Tensor:
        """Compute the call by the fastest implementation for its shape, or for the nearest shape that was measured."""
        available = self.candidates(call)
        if len(available) == 1:
            return next(iter(available.values()))(call)
        shape = shape_class_of(call)
        if shape not in self.choices and self.clock() < self._until:
            self._measure(shape, call, available)
        return available[self._choose(shape, available)](call)

    @contextmanager
    def tuning(self, seconds: float) -> Iterator[None]:
        """Context in which new shapes are timed, for at most `seconds`; a started measurement is finished."""
        self._until = self.clock() + seconds
        try:
            yield
        finally:
            self._until = -inf
            self._nearest.clear()

    @property
    def reasons(self) -> tuple[str, ...]:
        """One sentence for each choice, in the order in which they were made."""
        return tuple(choice.reason for choice in self.choices.values())

    @property
    def is_tuning(self) -> bool:
        """Whether new shapes are timed now."""
        return self.clock() < self._until

    def _choose(self, shape: ShapeClass, available: Mapping[str, Implementation]) -> str:
        name = self._nearest.get(shape)
        if name is None:
            nearest = min(self.choices.values(), key=lambda choice: _octaves_apart(choice.shape, shape), default=None)
            usable = nearest is not None and _octaves_apart(nearest.shape, shape) < inf
            name = self._nearest[shape] = nearest.implementation if nearest is not None and usable else next(iter(available))
        return name

    def _measure(self, shape: ShapeClass, call: Call, available: Mapping[str, Implementation]) -> None:
        self.choices[shape] = TunedChoice(shape, {name: self._seconds(implementation, call) for name, implementation in available.items()})
        self._nearest.clear()

    def _seconds(self, implementation: Implementation, call: Call) -> float:
        """The least time of a few calls after a warm-up; `inf` for an implementation that does not support the call."""
        try:
            first = self._once(implementation, call)
            return min(self._once(implementation, call) for _ in range(1 if first > SLOW_S else REPEATS))
        except RuntimeError:  # what SDPA raises for a call that a backend does not support
            return inf

    def _once(self, implementation: Implementation, call: Call) -> float:
        started = self.clock()
        implementation(call)
        if call.query.device.type == "cuda":
            torch.cuda.synchronize(call.query.device)
        return self.clock() - started


def shape_class_of(call: Call) -> ShapeClass:
    """The shape class of a call."""
    sequences, tokens, heads, width = call.query.shape
    keys = call.cached[0]
    return ShapeClass(
        device=str(call.query.device),
        dtype=str(call.query.dtype),
        is_plain=call.is_plain,
        is_causal=call.is_causal,
        scaled=keys.scales is not None,
        heads=heads,
        kv_heads=keys.rows.shape[1],
        width=width,
        sequences=power_of_two(sequences),
        tokens=power_of_two(tokens),
        keys=power_of_two(keys.rows.shape[2]),
    )


def _octaves_apart(first: ShapeClass, second: ShapeClass) -> float:
    """Sum of the octaves between the sizes of two shapes; `inf` where they differ otherwise, and between one token and several."""
    resized = replace(second, sequences=first.sequences, tokens=first.tokens, keys=first.keys)
    if resized != first or (first.tokens == 1) != (second.tokens == 1):
        return inf
    return sum(abs(log2(a / b)) for a, b in ((first.sequences, second.sequences), (first.tokens, second.tokens), (first.keys, second.keys)))
