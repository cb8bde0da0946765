"""Every committed variant of a Triton kernel compiles for GPUs that are not here, within its budget."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from advisor.kernels.kernel import Kernel
from advisor.kernels.registry import KERNELS

ROOT = Path(__file__).parents[2]
WITH_VARIANTS = [kernel for kernel in KERNELS if kernel.variants]


@pytest.mark.parametrize("kernel", WITH_VARIANTS, ids=lambda kernel: kernel.name)
def test_every_variant_keeps_its_budget(kernel: Kernel) -> None:
    # a process of its own: Triton decides at import whether it interprets
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-m", "tools.compile_ahead", "--json", kernel.name],
        capture_output=True, text=True, cwd=ROOT, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    codes = json.loads(done.stdout)
    wanted = sum(len(variant.architectures) for variant in kernel.variants)
    assert len(codes) == wanted, f"{len(codes)} forms compiled of {wanted}"
    missed = [f"{code['variant']} sm_{code['architecture']}: {'; '.join(code['problems'])}" for code in codes if code["problems"]]
    assert not missed, "\n".join(missed)
