"""Steps of many deployments at once: each member's as if it were priced alone, and every distinct price asked for once."""

import itertools

import numpy as np
import pytest

from advisor.backends.deployment import Attention, AttentionBackend, DecodeMethod, Decoding, Deployment, KvCache, KvLayout, Weights
from advisor.estimate.machines.catalogue import CatalogueMachine
from advisor.estimate.machines.machine import Machine, Shares
from advisor.estimate.operators.types import Phase, StepPart
from advisor.estimate.steps.batched import Family
from advisor.estimate.steps.pricer import SharedPrices, StepPricer
from advisor.profiles.engines import load_engine
from advisor.profiles.hardware import load_hardware
from advisor.profiles.model_store import find_model

MODEL = find_model("Qwen/Qwen3-8B")
PLAIN = Decoding()
DRAFTED = Decoding(DecodeMethod.DRAFT, 3, 0.7, (0.6, 0.8), find_model("Qwen/Qwen3-0.6B"))
DECODING = StepPart(Phase.DECODE, 8, 1, 1500)
CHUNK = StepPart(Phase.PREFILL, 1, 500, 1000)
STEPS = {"decode": (DECODING,), "prefill": (CHUNK,), "mixed": (CHUNK, DECODING)}


def machine(engine: str = "advisor") -> Machine:
    return CatalogueMachine(load_hardware("l40s"), load_engine(engine).gpu)


def pricers(decoding: Decoding, on: Machine, shared: SharedPrices | None = None) -> list[StepPricer]:
    """Three ways to store weights, two kernels, two caches: twelve deployments."""
    shared = shared or SharedPrices()
    ways = itertools.product(("bf16", "int8", "int4"), (AttentionBackend.EAGER, AttentionBackend.SDPA), ("bf16", "int8"))
    return [
        StepPricer(Deployment(MODEL, Weights(weights), Attention(kernel), KvCache(KvLayout.PAGED, 16, cache), decoding), on, shared)
        for weights, kernel, cache in ways
    ]


@pytest.mark.parametrize("engine", ["advisor", "transformers"])
@pytest.mark.parametrize("parts", STEPS.values(), ids=STEPS)
def test_a_step_takes_each_member_what_it_takes_it_alone(parts: tuple[StepPart, ...], engine: str) -> None:
    family, alone = Family(pricers(PLAIN, machine(engine))), pricers(PLAIN, machine(engine))
    assert list(family.step_s(parts)) == pytest.approx([pricer.step_s(parts) for pricer in alone], rel=1e-12)


def test_drafts_are_part_of_steps_and_prefills() -> None:
    family, alone = Family(pricers(DRAFTED, machine())), pricers(DRAFTED, machine())
    assert list(family.decode_s(8, 1500.0)) == pytest.approx([pricer.decode_s(8, 1500.0) for pricer in alone], rel=1e-12)
    assert list(family.prefill_s(900, 900)) == pytest.approx([pricer.prefill_s(900, 900) for pricer in alone], rel=1e-12)


def test_some_members_are_priced_as_among_all() -> None:
    members, indices = pricers(PLAIN, machine()), np.array([7, 2, 11])
    family = Family(members)
    assert list(family.of(indices).step_s(STEPS["mixed"])) == list(family.step_s(STEPS["mixed"])[indices])


def test_weights_are_priced_once_each_and_so_is_attention() -> None:
    shared = SharedPrices()
    members = pricers(PLAIN, machine(), shared)

    def prices() -> list[Shares]:
        return [price for cached in (shared.tokens, shared.mixing) for of_kind in cached.values() for price in of_kind.values()]

    first = Family(members).step_s(STEPS["decode"])
    computed = prices()
    assert len(computed) == 3 + 4, "three ways to store weights; two kernels over two caches"
    assert list(Family(members).step_s(STEPS["decode"])) == list(first)
    assert list(map(id, prices())) == list(map(id, computed)), "a price that is computed again is another object"
