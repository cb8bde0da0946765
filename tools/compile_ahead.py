"""Compile every variant of the Triton kernels for GPUs that need not be present, and count what the machine code takes.

    python -m tools.compile_ahead [KERNEL ...] [--arch 90] [--json] [--out FILE]

Prints one line per variant and architecture; exits with 1 if one exceeds its budget. `TRITON_INTERPRET` must not be set.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from advisor.kernels.kernel import INTERPRETED, Variant
from advisor.kernels.registry import KERNELS
from advisor.profiles.files import write_whole

HALF_RATE = frozenset({"LOP3", "SHF", "PRMT", "I2F", "I2FP", "F2F", "F2FP", "IADD3", "LEA", "ISETP", "SEL", "VIADD", "IABS"})
"""Instructions issued at about half the rate of a fused multiply-add: they count as two slots (CUDA C++ Programming Guide,
table of arithmetic throughput)."""
MATRIX = ("HMMA", "HGMMA", "IMMA", "IGMMA", "QMMA", "QGMMA")
SPILLS = ("LDL", "STL")
_LINE = re.compile(r"/\*([0-9a-f]{4,6})\*/\s+(?:@!?U?P\w+ )?([A-Z0-9_.]+)([^;]*);")
_RESOURCES = re.compile(r"REG:(\d+) STACK:(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """Resources of one compiled variant on one architecture."""

    kernel: str
    variant: str
    architecture: int
    registers: int
    stack_bytes: int
    shared_bytes: int
    matrix_instructions: int
    spill_instructions: int
    loop_instructions: int
    slots_per_element: float | None
    """Issue slots of the longest loop per element and lane."""
    problems: tuple[str, ...]


def compile_ahead(kernel: str, variant: Variant, architecture: int) -> Code:
    """Compile one variant. A failure to compile is a problem of the result, not an exception."""
    names = variant.function.arg_names
    source = ASTSource(
        fn=variant.function,
        signature={name: variant.types.get(name, "constexpr") for name in names},
        constexprs=dict(variant.constants),
        attrs={(at,): [["tt.divisibility", 16]] for at, name in enumerate(names) if _is_aligned(variant, name)},
    )
    compiler_options = {"num_warps": variant.warps, "num_stages": variant.stages}
    try:
        built = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=compiler_options)
    except Exception as error:  # noqa: BLE001 - Triton and ptxas raise many kinds; each means that the variant does not compile
        return _failed(kernel, variant, architecture, f"does not compile: {(str(error).splitlines() or [type(error).__name__])[-1]}")
    resources, lines = _disassemble(built.asm["cubin"])
    registers, stack = (int(number) for number in _RESOURCES.findall(resources)[0])
    loop = _longest_loop(lines)
    opcodes = Counter(name.split(".")[0] for _, name, _ in lines)
    in_loop = Counter(name.split(".")[0] for _, name, _ in loop)
    slots = sum(count * (2 if name in HALF_RATE else 1) for name, count in in_loop.items())
    code = Code(
        kernel=kernel,
        variant=variant.name,
        architecture=architecture,
        registers=registers,
        stack_bytes=stack,
        shared_bytes=int(built.metadata.shared),
        matrix_instructions=sum(opcodes[name] for name in MATRIX),
        spill_instructions=sum(opcodes[name] for name in SPILLS),
        loop_instructions=len(loop),
        slots_per_element=round(slots * 32 * variant.warps / variant.elements, 2) if variant.elements else None,
        problems=(),
    )
    return Code(**{**asdict(code), "problems": tuple(_over_budget(code, variant))})


def _is_aligned(variant: Variant, name: str) -> bool:
    return variant.types.get(name, "").startswith("*") or name in variant.aligned


def _failed(kernel: str, variant: Variant, architecture: int, why: str) -> Code:
    counts: dict[str, Any] = dict.fromkeys(
        ("registers", "stack_bytes", "shared_bytes", "matrix_instructions", "spill_instructions", "loop_instructions"), 0
    )
    return Code(kernel=kernel, variant=variant.name, architecture=architecture, **counts, slots_per_element=None, problems=(why,))


def _disassemble(cubin: bytes) -> tuple[str, list[tuple[int, str, str]]]:
    """cuobjdump's resource report, and the instructions as (address, name, operands)."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        resources, code = (
            subprocess.run([tool, option, file.name], capture_output=True, text=True, check=True).stdout
            for option in ("--dump-resource-usage", "--dump-sass")
        )
    return resources, [(int(address, 16), name, rest) for address, name, rest in _LINE.findall(code)]


def _longest_loop(lines: list[tuple[int, str, str]]) -> list[tuple[int, str, str]]:
    """The instructions between the target of a backward branch and the branch, for the loop of most instructions that holds no other."""
    loops = []
    for address, name, rest in lines:
        target = re.search(r"0x([0-9a-f]+)", rest) if name.startswith("BRA") else None
        if target and int(target.group(1), 16) < address:
            loops.append((int(target.group(1), 16), address))
    inner = [(start, end) for start, end in loops if not any(start <= other < stop < end for other, stop in loops)]
    start, end = max(inner, key=lambda loop: loop[1] - loop[0], default=(0, -1))
    return [line for line in lines if start <= line[0] <= end]


def _over_budget(code: Code, variant: Variant) -> Iterator[str]:
    if code.stack_bytes or code.spill_instructions:
        yield f"spills: {code.stack_bytes} bytes of stack, {code.spill_instructions} instructions"
    if code.registers > variant.registers:
        yield f"{code.registers} registers, allowed {variant.registers}"
    if code.shared_bytes > variant.shared_bytes:
        yield f"{code.shared_bytes} bytes of shared memory, allowed {variant.shared_bytes}"
    if variant.multiplies and not code.matrix_instructions:
        yield "no matrix instruction"
    if variant.slots_per_element is not None:
        if code.slots_per_element is None or not code.loop_instructions:
            yield "no loop to count"
        elif code.slots_per_element > variant.slots_per_element:
            yield f"{code.slots_per_element} slots an element, allowed {variant.slots_per_element}"


def main() -> int:
    """Compile and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kernels", nargs="*", metavar="KERNEL", help="names of kernels; all without any")
    parser.add_argument("--arch", type=int, action="append", help="compute capability times ten, as 90")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path, help="a file to write the same to, with Triton's version, whole or not at all")
    options = parser.parse_args()
    if INTERPRETED:
        parser.error("unset TRITON_INTERPRET: the interpreter compiles nothing")
    unknown = set(options.kernels) - {kernel.name for kernel in KERNELS}
    if unknown:
        parser.error(f"unknown kernel {', '.join(sorted(unknown))}; choose from {', '.join(kernel.name for kernel in KERNELS)}")
    wanted = [
        (kernel.name, index, architecture)
        for kernel in KERNELS
        if not options.kernels or kernel.name in options.kernels
        for index, variant in enumerate(kernel.variants)
        for architecture in variant.architectures
        if not options.arch or architecture in options.arch
    ]
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as processes:
        codes = list(processes.map(_compile_named, wanted))
    if options.out:
        record = {"triton": triton.__version__, "codes": [asdict(code) for code in codes]}
        write_whole(options.out, json.dumps(record, indent=1) + "\n")
    if options.json:
        print(json.dumps([asdict(code) for code in codes], indent=1))
    else:
        for code in codes:
            print(_line(code))
    return 1 if any(code.problems for code in codes) else 0


def _compile_named(form: tuple[str, int, int]) -> Code:
    """Compile variant `index` of a kernel: a Triton function does not travel between processes, its name does."""
    name, index, architecture = form
    kernel = next(kernel for kernel in KERNELS if kernel.name == name)
    return compile_ahead(name, kernel.variants[index], architecture)


def _line(code: Code) -> str:
    slots = "" if code.slots_per_element is None else f" {code.slots_per_element:5.2f} slots/element"
    verdict = "ok" if not code.problems else "; ".join(code.problems)
    sizes = f"{code.registers:3d} registers {code.shared_bytes:6d} B shared {code.matrix_instructions:4d} matrix"
    return f"{code.kernel} {code.variant} sm_{code.architecture}: {sizes}{slots}  {verdict}"


if __name__ == "__main__":
    sys.exit(main())
