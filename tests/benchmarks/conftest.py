"""Cases, kernels and runners that need no GPU and tell what was done to them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.harness.record import Environment
from benchmarks.harness.store import Store

if TYPE_CHECKING:
    import torch

    from advisor.kernels.kernel import Kernel
    from benchmarks.harness.case import Bench, Case, Measured
    from benchmarks.harness.runner import Outcome


@pytest.fixture(scope="session")
def environment() -> Environment:
    import torch

    from benchmarks.harness.environment import read_environment

    return read_environment(torch.device("cpu"))


@pytest.fixture
def store(tmp_path: Path, environment: Environment) -> Store:
    return Store(tmp_path, environment)


@pytest.fixture
def bench(store: Store) -> Bench:
    import torch

    from benchmarks.harness.case import Bench

    return Bench(device=torch.device("cpu"), samples=2, folder=store.folder, record=store.record)


@pytest.fixture
def run() -> Callable[..., tuple[Outcome, list[str]]]:
    """Run cases over a store with the given seconds left; returns the results and what was printed."""
    import torch

    from benchmarks.harness.case import Bench
    from benchmarks.harness.runner import Runner

    def of(store: Store, cases: Sequence[Case], *, seconds: float = 3600, retry: bool = False) -> tuple[Outcome, list[str]]:
        said: list[str] = []
        bench = Bench(device=torch.device("cpu"), samples=2, folder=store.folder, record=store.record)
        runner = Runner(store, bench, time.monotonic() + seconds, said.append, retry=retry, total_s=seconds)
        return runner.run(cases), said

    return of


@pytest.fixture
def kernel() -> Callable[..., Kernel]:
    """Doubling, or something else that claims to be it."""
    import torch

    from advisor.kernels.kernel import Kernel

    def of(launch: Callable[[torch.Tensor], torch.Tensor] = lambda x: 2 * x, name: str = "double") -> Kernel:
        return Kernel(
            name=name,
            reference=lambda x: 2 * x,
            launch=launch,
            inputs=lambda size: (torch.arange(1.0, size + 1),),
            shapes=((3,), (8,)),
            tolerance=1e-6,
            bytes=lambda size: 8 * size,
            flops=lambda size: size,
        )

    return of


@pytest.fixture
def case() -> Callable[..., Case]:
    """A case that notes in `ran` that it ran."""
    from benchmarks.harness.case import Case, Measured

    def of(name: str, ran: list[str], *, error: Exception | None = None, **settings: Any) -> Case:
        def work(bench: Bench) -> Measured:
            ran.append(name)
            if error is not None:
                raise error
            return Measured(values={"answer": 42.0})

        defaults: dict[str, Any] = {"part": "kernels", "name": name, "seconds": 0.0, "run": work}
        return Case(**defaults | settings)

    return of
