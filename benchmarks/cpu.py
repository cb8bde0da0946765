"""Measures this processor: ceilings, every kernel's CPU form, the runtime against transformers, predicted against measured.

    python -m benchmarks.cpu [--minutes 20] [--only 'runtime/*'] [--out FOLDER]

As `benchmarks.gpu`: checks come first, raw samples go to `benchmarks/results/<device>/` after every case, and a rerun continues.
"""

import sys

import torch

from advisor.backends.detection.host import read_host
from advisor.backends.measure.bandwidth import beyond_cache_bytes
from advisor.profiles.errors import ExitCode
from benchmarks.harness.case import Case
from benchmarks.harness.checks import check_cases, kernels_on
from benchmarks.harness.command import options, refuse_dry_run_over_results, run

MINUTES = 20.0
"""Everything takes about sixteen on two cores."""
SAMPLES, DRY_SAMPLES = 9, 2
SIZE = 2048
"""Of the matrices whose product is the ceiling."""


def main() -> int:
    """Measure; returns the exit code."""
    parser = options(__doc__ or "", minutes=MINUTES)
    parser.add_argument("--threads", type=int, default=read_host().cpu.usable_cores, help="of torch; by default all usable cores")
    arguments = parser.parse_args()
    wrong = refuse_dry_run_over_results(arguments)
    if wrong:
        parser.error(wrong)
    cases = cpu_cases(dry=arguments.dry_run)
    if arguments.list:
        print("\n".join(f"{case.part}/{case.name}  about {case.seconds:g} s" for case in cases))
        return int(ExitCode.OK)
    torch.set_num_threads(arguments.threads)
    return run(cases, torch.device("cpu"), arguments, samples=DRY_SAMPLES if arguments.dry_run else SAMPLES)


def cpu_cases(*, dry: bool = False) -> list[Case]:
    """Every case, most important first; tiny ones for a trial."""
    from benchmarks import batching_cpu, linear_cpu
    from benchmarks.cases import ceilings, kv_formats, layer_attention, quality, stacks

    if dry:
        return _tiny_cases()
    steps = linear_cpu.step_cases()
    return [
        *ceilings.ceiling_cases(buffer_bytes=beyond_cache_bytes(torch.device("cpu")), size=SIZE)[:3],
        *check_cases(kernels_on("cpu"), seconds=4),
        *steps[:1],
        *batching_cpu.mixed_cases(),
        *layer_attention.layer_cases(),
        *kv_formats.format_cases(),
        *stacks.stack_cases(stacks.cpu_stacks(), seconds=14, profile_s=90, serve_s=8),
        *quality.quality_cases(),
        *steps[1:],
        *linear_cpu.layer_cases(),
    ]


def _tiny_cases() -> list[Case]:
    """One or two cases of every kind."""
    from benchmarks import batching_cpu, linear_cpu
    from benchmarks.cases import ceilings, kv_formats, layer_attention, models, quality, stacks

    return [
        *ceilings.ceiling_cases(buffer_bytes=2**16, size=64)[:3],
        *check_cases(kernels_on("cpu"), seconds=0, shapes=1),
        *linear_cpu.layer_cases(((64, 128),), (1,), seconds=0),
        *linear_cpu.step_cases(models.TINY, (("decode", 2, 4), ("prefill", 1, 8)), seconds=0),
        *layer_attention.layer_cases(layer_attention.TINY_WORKS, layer_attention.TINY_HEADS, seconds=0),
        *batching_cpu.mixed_cases(((models.TINY, 0),)),
        *kv_formats.format_cases(((models.TINY, 2),), prompt_tokens=32, output_tokens=4, seconds=0),
        *quality.quality_cases(quality.LOSSY[:1], tokens=1024, seconds=0),
        *stacks.stack_cases(stacks.tiny_stacks(), seconds=0, profile_s=0, serve_s=0),
    ]


if __name__ == "__main__":
    sys.exit(main())
