"""Every committed variant of a Triton kernel compiles for GPUs that are not here, within its budget."""

import json
import os
import subprocess
import sys

import pytest

from tests.kernels.registered import COMPILED, kernel_named
from tests.paths import ROOT


def compiled(*words: str) -> list[dict[str, object]]:
    """What `tools.compile_ahead` reports, from a process of its own: Triton decides at import whether it interprets."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "tools.compile_ahead", "--json", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert done.returncode in (0, 1), done.stderr
    codes: list[dict[str, object]] = json.loads(done.stdout)
    return codes


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPILED)
def test_every_variant_compiles_within_its_budget(name: str) -> None:
    codes = compiled(name)
    expected = sum(len(variant.architectures) for variant in kernel_named(name).variants)
    assert len(codes) == expected, f"{len(codes)} forms compiled of {expected}"
    over = [f"{code['variant']} sm_{code['architecture']}: {code['problems']}" for code in codes if code["problems"]]
    assert not over, "\n".join(over)
