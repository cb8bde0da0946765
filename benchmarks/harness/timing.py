"""Times candidates alternately on the same inputs: on a GPU by replaying CUDA graphs, else by the host's clock."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Protocol

import torch

from benchmarks.harness.record import Timing

CALLS = 20
"""Calls in one graph: enough to make its launch negligible."""
SAMPLE_S = 4e-3
"""A sample of slow calls holds fewer of them, so that it lasts about this long."""
SAMPLES = 50
WARM_UP = 3
CACHES = 4
"""Total size of the input sets, as a multiple of the last-level cache."""
FEWEST_SETS, MOST_SETS = 3, 64


@dataclass(frozen=True, slots=True)
class Candidate:
    """An implementation: a call for each set of inputs."""

    name: str
    calls: Sequence[Callable[[], object]]


class Sampler(Protocol):
    """A candidate that is ready to be timed."""

    how: str
    calls: int

    def start(self) -> Callable[[], float]:
        """Start one sample. The returned function gives the seconds of one call, after all samples have finished."""


def interleaved(candidates: Sequence[Candidate], device: torch.device, samples: int = SAMPLES) -> tuple[Timing, ...]:
    """Time all candidates, one sample each in turn. One that fails is reported as missing, with its error.

    Raises the error of the first candidate.
    """
    ready: dict[str, Sampler] = {}
    missing: dict[str, Timing] = {}
    for index, candidate in enumerate(candidates):
        try:
            ready[candidate.name] = _sampler(candidate, device)
        except Exception as error:
            if index == 0 or not is_alive(device):
                raise
            missing[candidate.name] = absent(candidate.name, error)
    taken: dict[str, list[Callable[[], float]]] = {name: [] for name in ready}
    for _ in range(samples):
        for name, sampler in ready.items():
            taken[name].append(sampler.start())
    _synchronise(device)
    timings = {name: _timing(name, sampler, taken[name]) for name, sampler in ready.items()} | missing
    return tuple(timings[candidate.name] for candidate in candidates)


def absent(name: str, error: Exception | str) -> Timing:
    """A candidate that was not run, and why."""
    reason = error if isinstance(error, str) else f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    return Timing(name=name, how="missing", why=reason[:300])


def sets_for(set_bytes: int, device: torch.device) -> int:
    """Number of input sets of `set_bytes` so that no input is still in the cache when it is used again."""
    cache = torch.cuda.get_device_properties(device).L2_cache_size if device.type == "cuda" else 0
    return min(MOST_SETS, max(FEWEST_SETS, -(-CACHES * cache // max(set_bytes, 1))))


def is_alive(device: torch.device) -> bool:
    """Whether the device still works; after an illegal access it fails until the process ends."""
    try:
        _synchronise(device)
    except RuntimeError:
        return False
    return True


def _sampler(candidate: Candidate, device: torch.device) -> Sampler:
    if device.type != "cuda":
        return _Loop(candidate.calls)
    try:
        return _Graph(candidate.calls, device)
    except RuntimeError:
        if not is_alive(device):
            raise
        return _EventLoop(candidate.calls, device)  # what synchronises cannot be captured


def _timing(name: str, sampler: Sampler, taken: Sequence[Callable[[], float]]) -> Timing:
    seconds = tuple(float(f"{sample():.4g}") for sample in taken)
    return Timing.model_validate({"name": name, "how": sampler.how, "calls": sampler.calls, "seconds": seconds})


def _calls_for(seconds: float, sets: int) -> int:
    """Whole rounds over the sets: about `CALLS` calls, fewer when they are slow."""
    wanted = max(1, min(CALLS, int(SAMPLE_S / max(seconds, 1e-9))))
    return -(-wanted // sets) * sets


class _Loop:
    """Calls one after another by the host's clock."""

    how = "loop"

    def __init__(self, calls: Sequence[Callable[[], object]]) -> None:
        self._work = calls
        for call in calls:
            call()
        started = time.perf_counter()
        calls[0]()
        self.calls = _calls_for(time.perf_counter() - started, len(calls))

    def start(self) -> Callable[[], float]:
        """See `Sampler`."""
        started = time.perf_counter()
        for index in range(self.calls):
            self._work[index % len(self._work)]()
        seconds = (time.perf_counter() - started) / self.calls
        return lambda: seconds


class _EventLoop:
    """Calls one after another between two events of the device."""

    how = "loop"

    def __init__(self, calls: Sequence[Callable[[], object]], device: torch.device) -> None:
        self._work = calls
        self.calls = _calls_for(_warmed_up(calls, device), len(calls))

    def _run(self) -> None:
        for index in range(self.calls):
            self._work[index % len(self._work)]()

    def start(self) -> Callable[[], float]:
        """See `Sampler`. Events, not the clock: the host runs ahead."""
        return _between_events(self._run, self.calls)


class _Graph(_EventLoop):
    """The same calls captured once and replayed, so that no launch from the host counts."""

    how = "graph"

    def __init__(self, calls: Sequence[Callable[[], object]], device: torch.device) -> None:
        super().__init__(calls, device)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            super()._run()
        self._graph.replay()

    def _run(self) -> None:
        self._graph.replay()


def _between_events(work: Callable[[], None], calls: int) -> Callable[[], float]:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]  # torch leaves it untyped
    begin.record()
    work()
    end.record()
    return lambda: float(begin.elapsed_time(end)) * 1e-3 / calls


def _warmed_up(calls: Sequence[Callable[[], object]], device: torch.device) -> float:
    """Seconds of a call after compiling and warming up, on a side stream as capture asks for."""
    side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        for call in calls:
            call()
        taken = [_between_events(lambda: _discard(calls[0]()), 1) for _ in range(WARM_UP)]
    torch.cuda.current_stream(device).wait_stream(side)
    _synchronise(device)
    return median(sample() for sample in taken)


def _discard(_: object) -> None:
    """Ignore a result."""


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
