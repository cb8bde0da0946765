"""Detects processor and memory from the operating system's files; executes nothing but `sysctl` and `vm_stat` on macOS."""

import os
import platform
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from advisor.backends.detection.cgroup import cgroup_limits, file_text

HOST_ROOT = "ADVISOR_HOST_ROOT"
"""Environment variable: the folder whose `proc`, `sys` and `dev` describe the machine, instead of `/`."""
KIB = 1024
# Linux's names on the left; the right one is the usual word where the two differ.
_FEATURES = {
    "avx": "avx", "avx2": "avx2", "fma": "fma", "f16c": "f16c", "avx_vnni": "avx_vnni", "avx512f": "avx512f",
    "avx512_vnni": "avx512_vnni", "avx512_bf16": "avx512_bf16", "avx512_fp16": "avx512_fp16", "amx_tile": "amx_tile",
    "amx_bf16": "amx_bf16", "amx_int8": "amx_int8", "asimd": "neon", "asimddp": "dotprod", "asimdhp": "fp16", "bf16": "bf16",
    "i8mm": "i8mm", "sve": "sve", "sve2": "sve2",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """The processor as this process may use it."""

    model: str
    vendor: str
    family: int | None
    """CPU family; x86 only."""
    sockets: int
    cores: int
    """Physical cores of the machine."""
    threads: int
    """Logical processors of the machine."""
    usable_threads: int
    """Logical processors that affinity and cgroup leave to this process."""
    usable_cores: int
    """Physical cores among them: the useful number of compute threads."""
    instruction_sets: tuple[str, ...]
    hertz: float | None
    hertz_source: str | None
    l2_bytes: int | None
    """Of all usable cores together."""
    l3_bytes: int | None
    sve_bytes: int | None = None
    """Length of an SVE vector register."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The machine without its accelerators."""

    platform: str
    cpu: Cpu
    ram_total_bytes: int
    """Memory of the machine, or the cgroup's limit where that is less."""
    ram_available_bytes: int
    """Memory that a process can allocate now without swapping."""
    cpu_quota: float | None
    """CPU time that the cgroup allows, in processors; `None` without a quota."""
    memory_limit_bytes: int | None


def host_root(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder that holds the machine's `proc`, `sys` and `dev`.

    `/`, unless `ADVISOR_HOST_ROOT` names another: where a container mounts the files of its host, or a copy of another machine's.
    """
    return Path(environ.get(HOST_ROOT) or "/")


def read_host(root: Path | None = None) -> Host:
    """Detect processor and memory from the files in `root`, by default `host_root()`; on macOS with `sysctl`, elsewhere with Python."""
    root = root or host_root()
    system = "Linux" if (root / "proc/cpuinfo").exists() else platform.system()
    if system == "Linux":
        return linux_host(root, affinity=_affinity(root))
    if system == "Darwin":
        return mac_host(_output("sysctl", "hw", "machdep.cpu"), _output("vm_stat"))
    return _unknown_host()


def _affinity(root: Path) -> frozenset[int]:
    """Logical processors that this process may run on."""
    if allowed := re.search(r"^Cpus_allowed_list:\s*(\S+)$", file_text(root / "proc/self/status"), re.MULTILINE):
        return parse_cpu_list(allowed[1])
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def linux_host(root: Path, affinity: frozenset[int]) -> Host:
    """A Linux machine whose `proc` and `sys` are in `root`; `affinity` are the logical processors that this process may run on."""
    quota, limit, used = cgroup_limits(root)
    memory = parse_meminfo(file_text(root / "proc/meminfo"))
    total = memory.get("MemTotal", 0)
    available = memory.get("MemAvailable", memory.get("MemFree", 0))
    if limit is not None and limit < total:
        total = limit
        available = min(available, max(0, limit - used))
    return Host(
        platform=f"linux-{file_text(root / 'proc/sys/kernel/arch').strip() or platform.machine()}",
        cpu=linux_cpu(root, affinity, quota),
        ram_total_bytes=total,
        ram_available_bytes=available,
        cpu_quota=quota,
        memory_limit_bytes=limit,
    )


def parse_meminfo(text: str) -> dict[str, int]:
    """Entries of /proc/meminfo, in bytes."""
    return {name: int(kib) * KIB for name, kib in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)}


def linux_cpu(root: Path, affinity: frozenset[int], quota: float | None) -> Cpu:
    """The processor from `/proc/cpuinfo`, with caches and clock from sysfs where available; `quota` is the cgroup's, in processors."""
    text = file_text(root / "proc/cpuinfo")
    first = dict(re.findall(r"^([^\t:\n]+?)\s*:[ \t]*(.*)$", text.split("\n\n", 1)[0], re.MULTILINE))
    core_of = core_of_processor(text) or {number: (0, number) for number in affinity}
    allowed = affinity & core_of.keys() or frozenset(core_of)
    cores_allowed = len({core_of[number] for number in allowed})
    share = max(1, int(quota + 0.01)) if quota else len(allowed)
    flags = set((first.get("flags") or first.get("Features") or "").split())
    sysfs = root / "sys/devices/system/cpu/cpu0"
    hertz, hertz_source = _clock(sysfs, first)
    vector = file_text(root / "proc/sys/abi/sve_default_vector_length").strip()
    return Cpu(
        model=first.get("model name") or first.get("Hardware") or _arm_name(first) or platform.machine(),
        vendor=first.get("vendor_id", "ARM" if "CPU implementer" in first else "unknown"),
        family=int(first["cpu family"]) if first.get("cpu family", "").isdigit() else None,
        sockets=len({socket for socket, _ in core_of.values()}),
        cores=len(set(core_of.values())),
        threads=len(core_of),
        usable_threads=min(len(allowed), share),
        usable_cores=min(cores_allowed, share),
        instruction_sets=tuple(name for flag, name in _FEATURES.items() if flag in flags),
        hertz=hertz,
        hertz_source=hertz_source,
        l2_bytes=_cache_bytes(sysfs, 2, len(allowed)),
        l3_bytes=_cache_bytes(sysfs, 3, len(allowed)),
        sve_bytes=int(vector) if vector.isdigit() else None,
    )


def core_of_processor(cpuinfo: str) -> dict[int, tuple[int, int]]:
    """Socket and core of each logical processor; without topology (ARM, some containers) each is its own core."""
    core_of: dict[int, tuple[int, int]] = {}
    for block in cpuinfo.split("\n\n"):
        entry = dict(re.findall(r"^(processor|physical id|core id)\s*: *(\d+)$", block, re.MULTILINE))
        if "processor" in entry:
            number = int(entry["processor"])
            core_of[number] = (int(entry.get("physical id", 0)), int(entry.get("core id", number)))
    return core_of


# Implementer and part numbers of the server cores in use (Arm's main ID register, as in Linux's arch/arm64/include/asm/cputype.h).
_ARM_PARTS = {"0xd0c": "Neoverse N1", "0xd40": "Neoverse V1", "0xd49": "Neoverse N2", "0xd4f": "Neoverse V2"}


def _arm_name(first: dict[str, str]) -> str | None:
    return f"ARM {_ARM_PARTS.get(first['CPU part'], first['CPU part'])}" if "CPU part" in first else None


def _clock(sysfs: Path, first: dict[str, str]) -> tuple[float | None, str | None]:
    """Clock in Hz and its source: the base or rated clock, else the maximum, else the current one."""
    base = file_text(sysfs / "cpufreq/base_frequency").strip()
    if base.isdigit():
        return int(base) * 1e3, "base clock from sysfs"
    if rated := re.search(r"@ ([\d.]+)GHz", first.get("model name", "")):
        return float(rated[1]) * 1e9, "rated clock in /proc/cpuinfo"
    maximum = file_text(sysfs / "cpufreq/cpuinfo_max_freq").strip()
    if maximum.isdigit():
        return int(maximum) * 1e3, "greatest clock from sysfs"
    try:
        return float(first["cpu MHz"]) * 1e6, "clock in /proc/cpuinfo"
    except (KeyError, ValueError):
        return None, None


def _cache_bytes(sysfs: Path, level: int, processors: int) -> int | None:
    """Bytes of a cache level over all processors: processor 0's cache times the number of groups that share one."""
    for index in sorted((sysfs / "cache").glob("index*")):
        if file_text(index / "level").strip() != str(level) or file_text(index / "type").strip() == "Instruction":
            continue
        size = re.fullmatch(r"(\d+)([KMG]?)", file_text(index / "size").strip())
        if size is None:
            return None
        sharing = len(parse_cpu_list(file_text(index / "shared_cpu_list"))) or 1
        return int(size[1]) * {"": 1, "K": KIB, "M": KIB**2, "G": KIB**3}[size[2]] * -(-processors // sharing)
    return None


def parse_cpu_list(text: str) -> frozenset[int]:
    """Logical processors in a list such as `0-3,8`."""
    ranges = re.findall(r"(\d+)(?:-(\d+))?", text)
    return frozenset(number for first, last in ranges for number in range(int(first), int(last or first) + 1))


def mac_host(sysctl: str, vm_stat: str) -> Host:
    """A Mac, from the output of `sysctl hw machdep.cpu` and `vm_stat`."""
    values = dict(re.findall(r"^([\w.]+): (.*)$", sysctl, re.MULTILINE))
    threads = int(values.get("hw.logicalcpu", os.cpu_count() or 1))
    cores = int(values.get("hw.physicalcpu", threads))
    total = int(values.get("hw.memsize", 0))
    model = values.get("machdep.cpu.brand_string", platform.machine())
    hertz = int(values.get("hw.cpufrequency", 0)) or None
    cpu = Cpu(
        model=model,
        vendor="Apple" if model.startswith("Apple") else values.get("machdep.cpu.vendor", "unknown"),
        family=None,
        sockets=int(values.get("hw.packages", 1)),
        cores=cores,
        threads=threads,
        usable_threads=threads,
        usable_cores=cores,
        instruction_sets=_mac_features(values),
        hertz=float(hertz) if hertz else None,
        hertz_source="sysctl hw.cpufrequency" if hertz else None,
        l2_bytes=int(values.get("hw.l2cachesize", 0)) or None,
        l3_bytes=int(values.get("hw.l3cachesize", 0)) or None,
    )
    page = int(match[1]) if (match := re.search(r"page size of (\d+) bytes", vm_stat)) else 4096
    pages = sum(int(count) for count in re.findall(r"^Pages (?:free|inactive|speculative):\s+(\d+)\.", vm_stat, re.MULTILINE))
    return Host(
        platform=f"macos-{'arm64' if 'hw.optional.arm64' in values else 'x86_64'}",
        cpu=cpu,
        ram_total_bytes=total,
        ram_available_bytes=min(total, pages * page) if pages else total,
        cpu_quota=None,
        memory_limit_bytes=None,
    )


def _mac_features(values: dict[str, str]) -> tuple[str, ...]:
    flags = {word.lower() for key, text in values.items() if key.endswith("features") for word in text.split()}
    arm = {"FEAT_BF16": "bf16", "FEAT_I8MM": "i8mm", "FEAT_DotProd": "asimddp", "FEAT_FP16": "asimdhp"}
    flags |= {flag for feature, flag in arm.items() if values.get(f"hw.optional.arm.{feature}") == "1"}
    if values.get("hw.optional.arm64") == "1":
        flags.add("asimd")
    if "avx1.0" in flags:
        flags.add("avx")
    return tuple(name for flag, name in _FEATURES.items() if flag in flags)


def _unknown_host() -> Host:
    """A system that is neither Linux nor macOS, as far as Python reports it; memory is 0 where it does not."""
    threads = os.cpu_count() or 1
    model = platform.processor() or platform.machine() or "unknown processor"
    cpu = Cpu(
        model=model,
        vendor="unknown",
        family=None,
        sockets=1,
        cores=threads,
        threads=threads,
        usable_threads=threads,
        usable_cores=threads,
        instruction_sets=(),
        hertz=None,
        hertz_source=None,
        l2_bytes=None,
        l3_bytes=None,
    )
    name = f"{platform.system().lower()}-{platform.machine().lower()}"
    names = getattr(os, "sysconf_names", {})
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if "SC_PHYS_PAGES" in names else 0
    return Host(platform=name, cpu=cpu, ram_total_bytes=total, ram_available_bytes=total, cpu_quota=None, memory_limit_bytes=None)


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
