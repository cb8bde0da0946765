"""Measures this machine's GPU: ceilings, kernels against other implementations, the runtime against transformers, predictions.

    python -m benchmarks.gpu [--minutes 9] [--only 'kernels/*'] [--out FOLDER]

Every kernel is checked against its reference first; nothing is timed where a check is red, and the exit code is 1. Raw samples go
to `benchmarks/results/<device>/`, after every case: run it again to continue where it stopped. `make performance` writes the page.
"""

import os
import sys

import torch

from advisor.profiles.errors import ExitCode
from benchmarks.harness.case import Case
from benchmarks.harness.checks import check_cases, kernels_on
from benchmarks.harness.command import options, refuse_dry_run_over_results, run

MINUTES = 9.0
SAMPLES, DRY_SAMPLES = 50, 2


def main() -> int:
    """Measure, or say why not; returns the exit code."""
    parser = options(__doc__ or "", minutes=MINUTES)
    arguments = parser.parse_args()
    wrong = refuse_dry_run_over_results(arguments)
    if wrong:
        parser.error(wrong)
    if arguments.list:
        print("\n".join(f"{case.part}/{case.name}  about {case.seconds:g} s" for case in gpu_cases(dry=arguments.dry_run)))
        return int(ExitCode.OK)
    why_not = None if arguments.dry_run else missing_gpu()
    if why_not:
        print(why_not, file=sys.stderr)
        return int(ExitCode.MISSING)
    device = torch.device("cpu" if arguments.dry_run else "cuda")
    return run(gpu_cases(dry=arguments.dry_run), device, arguments, samples=DRY_SAMPLES if arguments.dry_run else SAMPLES)


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
    from benchmarks.cases import ceilings, continuous, decode_attention, kv_write, linear, one_sequence, prefill, rows, stacks

    if dry:
        return _tiny_cases()
    decodes, linears = decode_attention.decode_cases(), linear.linear_cases()
    prefills, row_operators = prefill.prefill_cases(), rows.row_cases()
    writes = kv_write.write_cases()
    single, batched = one_sequence.one_sequence_cases(), continuous.continuous_cases()
    return [
        *ceilings.ceiling_cases(),
        *check_cases(kernels_on("gpu")),
        *decodes[:4],
        *linears[:16],
        *single[:3],
        *batched[:1],
        *prefills[:2],
        *row_operators[:4],
        *writes[:2],
        *stacks.stack_cases(stacks.gpu_stacks(), seconds=4),
        *batched[1:2],
        *single[3:],
        *decodes[4:],
        *linears[16:],
        *prefills[2:],
        *row_operators[4:],
        *writes[2:],
        *batched[2:],
    ]


def _tiny_cases() -> list[Case]:
    """One or two cases of every kind, for a CPU."""
    from benchmarks.cases import (
        ceilings,
        continuous,
        decode_attention,
        kv_write,
        linear,
        models,
        one_sequence,
        prefill,
        rows,
        shapes,
        stacks,
    )

    lengths: dict[str, int] = {"prompt_tokens": 8, "output_tokens": 4}
    return [
        *ceilings.ceiling_cases(buffer_bytes=2**16, size=64),
        *check_cases(kernels_on("gpu"), seconds=0, shapes=1),
        *decode_attention.decode_cases(shapes.TINY_DECODES, seconds=0),
        *linear.linear_cases(shapes.TINY_LINEARS, seconds=0),
        *prefill.prefill_cases(shapes.TINY_PREFILLS, seconds=0),
        *rows.row_cases(shapes.TINY_ROWS, seconds=0),
        *kv_write.write_cases(shapes.TINY, (3,), seconds=0),
        *one_sequence.one_sequence_cases(((models.TINY, "bf16"), (models.TINY, "int8")), **lengths, seconds=0),
        *continuous.continuous_cases(((models.TINY, 2),), **lengths, seconds=0),
        *stacks.stack_cases(stacks.tiny_stacks(), seconds=0, profile_s=0, serve_s=0),
    ]


if __name__ == "__main__":
    sys.exit(main())
