"""Measures this machine's GPU: ceilings, every kernel beside its peers, the runtime beside transformers, predicted beside measured.

    python -m benchmarks.gpu [--minutes 9] [--only 'kernels/*'] [--out FOLDER]

Every kernel is checked against its reference first; nothing is timed where a check is red, and the exit code is 1. Raw samples go
to `benchmarks/results/<device>/`, whole after every case: run it again to go on where it stopped. `make performance` writes the page.
"""

import os
import sys

import torch

from advisor.profiles.errors import ExitCode
from benchmarks.harness.case import Case
from benchmarks.harness.checks import check_cases
from benchmarks.harness.command import options, refuse_dry_run_over_results, run

MINUTES = 9.0
SAMPLES, DRY_SAMPLES = 50, 2


def main() -> int:
    """Measure, or say why not; returns the exit code."""
    parser = options(__doc__ or "", minutes=MINUTES)
    asked = parser.parse_args()
    wrong = refuse_dry_run_over_results(asked)
    if wrong:
        parser.error(wrong)
    if asked.list:
        print("\n".join(f"{case.part}/{case.name}  about {case.seconds:g} s" for case in gpu_cases(dry=asked.dry_run)))
        return int(ExitCode.OK)
    why_not = None if asked.dry_run else missing_gpu()
    if why_not:
        print(why_not, file=sys.stderr)
        return int(ExitCode.MISSING)
    device = torch.device("cpu" if asked.dry_run else "cuda")
    return run(gpu_cases(dry=asked.dry_run), device, asked, samples=DRY_SAMPLES if asked.dry_run else SAMPLES, say=_say)


def missing_gpu() -> str | None:
    """Why no GPU can be measured here and what to do; `None` where one can."""
    if not torch.cuda.is_available():
        return (
            f"no GPU: torch {torch.__version__} sees no CUDA device, so nothing was measured and no file was written.\n"
            "Run this on a machine with an NVIDIA GPU and a CUDA build of torch; `nvidia-smi` shows whether the driver is there.\n"
            "Without one, `make bench-cpu` measures this processor and `make kernels` compiles every kernel for GPUs that are not here."
        )
    if os.environ.get("TRITON_INTERPRET", "0") == "1":
        return "TRITON_INTERPRET=1 runs the kernels in Triton's interpreter: unset it to measure the GPU."
    return None


def gpu_cases(*, dry: bool = False) -> list[Case]:
    """Every case, most important first; tiny ones for a trial."""
    from benchmarks.cases import ceilings, linear, shapes

    if dry:
        return [
            *ceilings.ceiling_cases(buffer_bytes=2**16, size=64),
            *check_cases(seconds=0, shapes=1),
            *linear.linear_cases(shapes.TINY_LINEARS),
        ]
    return [*ceilings.ceiling_cases(), *check_cases(), *linear.linear_cases()]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
