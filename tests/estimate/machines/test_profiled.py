"""A measured machine prices attention from its tables, and borrows where a variant was not measured."""

import pytest

from advisor.backends.deployment import AttentionBackend, KvLayout
from advisor.estimate.machines.profiled import ProfiledMachine
from advisor.estimate.operators.types import AttentionCall, Phase
from advisor.profiles.hardware import load_hardware
from advisor.profiles.machine import AttentionPoint, GemmPoint, MachineProfile, RuntimeOverheads

SECONDS = {
    ("sdpa", "paged", "bf16"): 1.0e-3,
    ("sdpa", "paged", "int4"): 1.5e-3,
    ("sdpa", "contiguous", "bf16"): 0.8e-3,
    ("eager", "contiguous", "bf16"): 2.0e-3,
    ("eager", "contiguous", "int8"): 2.6e-3,
    ("sdpa", "paged", "int8"): 1.3e-3,
}


def point(implementation: str, layout: str, kv_format: str) -> AttentionPoint:
    shape = {"batch": 4, "q_tokens": 1, "kv_tokens": 256, "q_heads": 8, "kv_heads": 4, "head_dim": 32}
    seconds = SECONDS[implementation, layout, kv_format]
    return AttentionPoint(implementation=implementation, layout=layout, kv_format=kv_format, phase="decode", seconds=seconds, **shape)


@pytest.fixture(scope="module")
def machine() -> ProfiledMachine:
    return ProfiledMachine(
        MachineProfile(
            name="canned",
            hardware=load_hardware("l40s"),
            fingerprint="canned",
            taken="2025-01-01T00:00:00Z",
            threads=2,
            shared=False,
            copy_bytes_per_s=1e10,
            read_bytes_per_s=1e10,
            launch_s=1e-6,
            gemm=(GemmPoint(format="bf16", m=1, n=64, k=64, working_set_bytes=8192, seconds=1e-5),),
            attention=tuple(point(*variant) for variant in SECONDS),
            runtime=RuntimeOverheads(step_s=1e-4, layer_s=1e-5, sequence_s=1e-6, element_s=0),
            residual_pct=1.0,
            environment={},
        )
    )


def priced(machine: ProfiledMachine, implementation: str, layout: str, kv_format: str) -> float:
    return machine.attention_s(
        AttentionCall(Phase.DECODE, 4, 1, 256, 8, 4, 32, 32, AttentionBackend(implementation), KvLayout(layout), kv_format, 1)
    )


@pytest.mark.parametrize("variant", SECONDS)
def test_a_measured_variant_takes_what_was_measured(machine: ProfiledMachine, variant: tuple[str, str, str]) -> None:
    assert priced(machine, *variant) == pytest.approx(SECONDS[variant])


@pytest.mark.parametrize(
    ("variant", "seconds"),
    [
        (("sdpa", "contiguous", "int4"), 1.5e-3 * 0.8 / 1.0),
        (("eager", "contiguous", "int4"), 1.5e-3 * 2.0 / 1.0),
        (("sdpa", "contiguous", "int8"), 1.3e-3 * 0.8 / 1.0),
    ],
)
def test_a_format_borrows_from_the_way_it_was_measured_in(machine: ProfiledMachine, variant: tuple[str, str, str], seconds: float) -> None:
    """Times what the two ways differ by in bf16; where there is a choice, the same implementation lends."""
    assert priced(machine, *variant) == pytest.approx(seconds)


def test_a_format_that_was_measured_in_no_way_is_priced_as_the_data_sheet_has_it(machine: ProfiledMachine) -> None:
    assert priced(machine, "sdpa", "paged", "fp8") > 0
