"""Why a plan computes in a type other than the checkpoint's."""

from advisor.backends.deployment import Deployment
from advisor.estimate.machines.machine import Machine
from advisor.estimate.operators.types import Gemm
from advisor.profiles.hardware import DTYPES
from advisor.quantities.formatting import number

PROMPT_ROWS, WIDTH = 256, 1024
"""Rows of a product as in a prompt, and its inputs and outputs."""
NOTICEABLE = 1.05
"""Ratio of two times from which one counts as longer."""


def arithmetic_reason(machine: Machine, deployment: Deployment) -> str:
    """The type, and the time of a product in it compared with that in the checkpoint's; empty in the checkpoint's own."""
    dtype, own = deployment.dtype, deployment.model.weight_format
    if own not in DTYPES or dtype == own:
        return ""
    ratio = _product_s(machine, own) / _product_s(machine, dtype)
    chosen = f"{dtype}, the checkpoint is in {own}: "
    if own not in machine.dtypes(own) and ratio < NOTICEABLE:
        return f"{chosen}this device has no units for {own}, or none that are faster"
    if ratio >= NOTICEABLE:
        return f"{chosen}products of a prompt take {number(ratio, trim=True)} times as long in {own} on this device"
    return f"{chosen}half the bytes, and products of a prompt take {number(1 / ratio, trim=True)} times as long as in {own}"


def _product_s(machine: Machine, dtype: str) -> float:
    return machine.gemm_s(Gemm(PROMPT_ROWS, WIDTH, WIDTH, dtype, 1, dtype=dtype), 0.0)
