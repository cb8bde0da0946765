"""`Hardware` of devices outside the catalogue: a processor, or a GPU by its driver's figures."""

from advisor.backends.detection.accelerator_names import match_accelerator_name
from advisor.backends.detection.gpus import DetectedGpu
from advisor.backends.detection.host import Cpu, Host
from advisor.profiles.errors import AdvisorError, ErrorAction, ExitCode
from advisor.profiles.hardware import Hardware, load_hardware

ASSUMED_HERTZ = 2.5e9
ASSUMED_CORE_BYTES_PER_S = 12e9
ASSUMED_DESKTOP_BYTES_PER_S = 60e9
"""Two channels of DDR4 or DDR5."""
ASSUMED_SOCKET_BYTES_PER_S = 200e9
"""Eight channels of DDR4."""
_DESKTOP_CORES = 24


def cpu_hardware(host: Host) -> Hardware:
    """The processor with the cores that this process may use.

    Peaks are cores × clock × width of the vector or matrix units. The memory bandwidth is assumed, and its source says so; a measured
    profile replaces it. Raises `AdvisorError` `hardware-unknown` without a memory size.
    """
    if host.ram_total_bytes <= 0:
        raise AdvisorError(
            "hardware-unknown",
            f"the memory of this {host.platform} machine cannot be read",
            exit_code=ExitCode.MISSING,
            help=("name a device of the catalogue with --hardware ID",),
            field="hardware",
            action=ErrorAction.CHOOSE,
        )
    cpu = host.cpu
    peaks, peak_sources = cpu_peaks(cpu)
    bandwidth, bandwidth_source = cpu_bandwidth(cpu)
    sources = {
        "memory_bytes": "limit of the cgroup" if host.memory_limit_bytes == host.ram_total_bytes else "total that the system reports",
        "memory_bandwidth_bytes_per_s": bandwidth_source,
        "cores": "physical cores that affinity and cgroup leave to this process",
        **peak_sources,
    }
    optional = {"l2_bytes": cpu.l2_bytes, "l3_bytes": cpu.l3_bytes, "instruction_sets": cpu.instruction_sets}
    present = {name: value for name, value in optional.items() if value}
    return Hardware.model_validate(
        {
            "id": "this-cpu",
            "name": cpu.model,
            "vendor": cpu.vendor,
            "arch": f"CPU {host.platform.split('-')[-1]}",
            "kind": "cpu",
            "memory_bytes": host.ram_total_bytes,
            "memory_bandwidth_bytes_per_s": bandwidth,
            "peak_flops": peaks,
            "cores": cpu.usable_cores,
            **present,
            "sources": {**sources, **dict.fromkeys(present, "reported by the system")},
        }
    )


def cpu_peaks(cpu: Cpu) -> tuple[dict[str, float], dict[str, str]]:
    """Peak FLOP/s by compute format, and how each was computed by `peak_flops.FORMAT`."""
    hertz = cpu.hertz or ASSUMED_HERTZ
    clock = cpu.hertz_source or "assumed clock"
    widths = flops_per_cycle(cpu)
    peaks = {format: cpu.usable_cores * hertz * flops for format, (flops, _) in widths.items()}
    reasons = {
        f"peak_flops.{format}": f"computed: {cpu.usable_cores} cores x {hertz / 1e9:.2f} GHz ({clock}) x {flops} FLOP/cycle ({units})"
        for format, (flops, units) in widths.items()
    }
    return peaks, reasons


def flops_per_cycle(cpu: Cpu) -> dict[str, tuple[int, str]]:
    """FLOP per cycle and core by compute format, and the execution units; formats without native units are omitted."""
    has = set(cpu.instruction_sets)
    fp32, units = _fp32(cpu, has)
    flops = {"fp32": (fp32, units)}
    if "amx_bf16" in has:
        flops["bf16"] = (1024, "AMX tiles")
    elif "avx512_bf16" in has or "bf16" in has:
        factor = 2 if "avx512_bf16" in has else 4
        flops["bf16"] = (factor * fp32, "AVX512-BF16, twice fp32" if factor == 2 else "BFMMLA, four times fp32")
    if "amx_int8" in has:
        flops["int8"] = (2048, "AMX tiles")
    elif "i8mm" in has:
        flops["int8"] = (8 * fp32, "I8MM, eight times fp32")
    elif has & {"avx512_vnni", "avx_vnni", "dotprod"}:
        flops["int8"] = (4 * fp32, "dot products of bytes, four times fp32")
    return flops


def _fp32(cpu: Cpu, has: set[str]) -> tuple[int, str]:
    if "avx512f" in has:
        # AMD's family 25 (Zen 4) runs 512-bit instructions on 256-bit units
        return (32, "AVX-512 on two 256-bit FMA") if cpu.family == 25 else (64, "two 512-bit FMA, assumed")
    if "avx2" in has:
        return (32, "two 256-bit FMA") if "fma" in has else (16, "256-bit add and multiply")
    if "avx" in has:
        return 16, "256-bit add and multiply"
    if cpu.sve_bytes and cpu.sve_bytes > 16:
        return cpu.sve_bytes, f"two {cpu.sve_bytes * 8}-bit SVE FMA, assumed"
    if "neon" in has:
        return (32, "four 128-bit FMA") if cpu.vendor == "Apple" or "sve2" in has else (16, "two 128-bit FMA, assumed")
    return 8, "128-bit add and multiply, assumed"


def cpu_bandwidth(cpu: Cpu) -> tuple[float, str]:
    """Memory bandwidth in bytes/s and its source: the catalogue for Apple's chips, else assumed."""
    if id := match_accelerator_name(cpu.model):
        return load_hardware(id).memory_bandwidth_bytes_per_s, f"catalogue, {id}"
    desktop = cpu.sockets == 1 and cpu.cores <= _DESKTOP_CORES
    most = ASSUMED_DESKTOP_BYTES_PER_S if desktop else cpu.sockets * ASSUMED_SOCKET_BYTES_PER_S
    bandwidth = min(cpu.usable_cores * ASSUMED_CORE_BYTES_PER_S, most)
    return bandwidth, f"assumed: 12 GB/s for each of {cpu.usable_cores} cores, at most {most / 1e9:.0f} GB/s; measure it with --profile"


# Dense fp16 tensor FLOP per cycle and multiprocessor with fp32 accumulation, by compute capability, from the data-sheet figure of
# that architecture's cards at their boost clock. GeForce cards of 7.5 and 8.6 on accumulate at half that rate.
_TENSOR = {
    "7.0": 1024,
    "7.5": 1024,
    "8.0": 2048,
    "8.6": 1024,
    "8.7": 1024,
    "8.9": 1024,
    "9.0": 4096,
    "10.0": 8192,
    "10.3": 8192,
    "12.0": 1024,
}
_HALVED = {"7.5", "8.6", "8.9", "12.0"}


def gpu_hardware(gpu: DetectedGpu) -> Hardware:
    """A GPU outside the catalogue, computed from the clocks, multiprocessors and memory bus that the driver reports.

    The maximum clock is above the boost clock of data sheets, so peaks are up to 10 % too high.
    Raises `AdvisorError` `hardware-unknown` where the driver reports too little.
    """
    capability = gpu.compute_capability or ""
    if not (gpu.total_bytes and gpu.sm_count and gpu.sm_hertz and gpu.memory_hertz and gpu.memory_bus_bits and capability in _TENSOR):
        raise AdvisorError(
            "hardware-unknown",
            f"`{gpu.name}` is not in the catalogue and its driver reports too little to plan for it",
            exit_code=ExitCode.MISSING,
            help=("name the nearest device with --hardware ID", "advisor hardware   lists every id"),
            field="hardware",
            action=ErrorAction.CHOOSE,
        )
    driver = f"driver of this machine ({gpu.via})"
    peaks = _gpu_peaks(gpu, capability, gpu.sm_count * gpu.sm_hertz)
    sources = {
        "memory_bytes": driver,
        "memory_bandwidth_bytes_per_s": f"computed: {gpu.memory_bus_bits} bit x {gpu.memory_hertz / 1e6:.0f} MHz x 2, {driver}",
        "compute_capability": driver,
        "sm_count": driver,
    }
    rate = f"computed: {gpu.sm_count} multiprocessors x {gpu.sm_hertz / 1e9:.2f} GHz, {driver}, x rate of compute capability {capability}"
    return Hardware(
        id="this-gpu",
        name=gpu.name,
        vendor="NVIDIA",
        arch=f"compute capability {capability}",
        kind="gpu",
        memory_bytes=gpu.total_bytes,
        memory_bandwidth_bytes_per_s=gpu.memory_bus_bits / 8 * gpu.memory_hertz * 2,
        peak_flops=peaks,
        compute_capability=capability,
        sm_count=gpu.sm_count,
        tdp_w=gpu.tdp_w,
        sources={**sources, **({"tdp_w": driver} if gpu.tdp_w else {}), **{f"peak_flops.{format}": rate for format in peaks}},
        notes="Not in the catalogue; no link to other devices is assumed.",
    )


def _gpu_peaks(gpu: DetectedGpu, capability: str, cycles_per_s: float) -> dict[str, float]:
    halved = "GeForce" in gpu.name and capability in _HALVED
    fp16 = cycles_per_s * _TENSOR[capability] / (2 if halved else 1)
    generation = float(capability)
    cores = 64 if capability in ("7.0", "7.5", "8.0") else 128
    peaks = {"fp32": cycles_per_s * cores * 2, "fp16": fp16}
    if generation >= 8:
        peaks |= {"tf32": fp16 / 2, "bf16": fp16}
    if generation >= 7.5 and capability != "10.3":
        peaks["int8"] = fp16 * (4 if halved else 2)
    if generation >= 8.9:
        peaks["fp8"] = fp16 * 2
    if generation >= 10:
        peaks["fp4"] = fp16 * (8 if halved else 4)
    return peaks
