import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from advisor.backends.detection.accelerator_names import accelerator_ids, match_accelerator_name
from advisor.backends.detection.detect import Detected, detect, detected_hardware, fingerprint, match_accelerator
from advisor.backends.detection.gpus import DetectedGpu, visible_gpus
from advisor.backends.detection.host import Cpu, Host
from advisor.backends.detection.own_hardware import cpu_hardware, flops_per_cycle, gpu_hardware
from advisor.profiles.errors import AdvisorError, ExitCode
from advisor.profiles.hardware import load_hardware, shipped_hardware
from tests.paths import ROOT

MIB = 2**20


class NVMLError(Exception):
    """What a driver without an answer raises."""


@dataclass
class FakeNvml:
    """Stands for the driver's library: GPUs as it would report them, and the questions that it does not support."""

    gpus: tuple[dict[str, Any], ...]
    unsupported: frozenset[str] = frozenset()
    driver: str | bytes = "580.95.05"
    open: bool = False
    NVMLError = NVMLError
    NVML_CLOCK_SM = 1
    NVML_CLOCK_MEM = 2

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("nvml") and name in object.__getattribute__(self, "unsupported"):
            return self._refuse
        return object.__getattribute__(self, name)

    def _refuse(self, *words: Any) -> None:
        raise NVMLError("Not Supported")

    def nvmlInit(self) -> None:  # noqa: N802 - the library's own name, as below
        self.open = True

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open = False

    def nvmlSystemGetDriverVersion(self) -> str | bytes:  # noqa: N802
        return self.driver

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> dict[str, Any]:  # noqa: N802
        return self.gpus[index]

    def nvmlDeviceGetName(self, gpu: dict[str, Any]) -> str | bytes:  # noqa: N802
        name: str | bytes = gpu["name"]
        return name

    def nvmlDeviceGetUUID(self, gpu: dict[str, Any]) -> str:  # noqa: N802
        return str(gpu.get("uuid", "GPU-0"))

    def nvmlDeviceGetMemoryInfo(self, gpu: dict[str, Any]) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(total=gpu["mib"] * MIB, free=(gpu["mib"] - 600) * MIB)

    def nvmlDeviceGetCudaComputeCapability(self, gpu: dict[str, Any]) -> tuple[int, int]:  # noqa: N802
        major, minor = gpu["capability"]
        return major, minor

    def nvmlDeviceGetUtilizationRates(self, gpu: dict[str, Any]) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(gpu=gpu.get("busy", 0))

    def nvmlDeviceGetComputeRunningProcesses(self, gpu: dict[str, Any]) -> list[SimpleNamespace]:  # noqa: N802
        return [SimpleNamespace(pid=pid) for pid in gpu.get("pids", ())]

    def nvmlDeviceGetMaxClockInfo(self, gpu: dict[str, Any], kind: int) -> int:  # noqa: N802
        return int(gpu["clocks"][kind - 1])

    def nvmlDeviceGetNumGpuCores(self, gpu: dict[str, Any]) -> int:  # noqa: N802
        return int(gpu["cores"])

    def nvmlDeviceGetMemoryBusWidth(self, gpu: dict[str, Any]) -> int:  # noqa: N802
        return int(gpu["bus"])


H200 = {"name": "NVIDIA H200", "uuid": "GPU-aaaa", "mib": 143771, "capability": (9, 0), "clocks": (1980, 3201), "cores": 16896, "bus": 6016}
A5000 = {
    "name": "NVIDIA RTX A5000-24Q",
    "uuid": "GPU-bbbb",
    "mib": 24564,
    "capability": (8, 6),
    "clocks": (1695, 8001),
    "cores": 8192,
    "bus": 384,
}


def _gpu(name: str, mib: int | None = None) -> DetectedGpu:
    total = mib * MIB if mib else None
    return DetectedGpu(index=0, name=name, via="nvml", total_bytes=total, free_bytes=total, driver="580.95.05", compute_capability="9.0")


def _host(model: str = "AMD EPYC", total: int = 24684092 * 1024, **changes: Any) -> Host:
    cpu = Cpu(
        model=model,
        vendor="AuthenticAMD",
        family=25,
        sockets=1,
        cores=2,
        threads=2,
        usable_threads=2,
        usable_cores=2,
        instruction_sets=("avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16"),
        hertz=2.6e9,
        hertz_source="clock in /proc/cpuinfo",
        l2_bytes=2 * MIB,
        l3_bytes=32 * MIB,
    )
    cpu = replace(cpu, **changes)
    return Host(platform="linux-x86_64", cpu=cpu, ram_total_bytes=total, ram_available_bytes=total, cpu_quota=None, memory_limit_bytes=None)


def _detected(*gpus: DetectedGpu, host: Host | None = None) -> Detected:
    return Detected(host=host or _host(), gpus=gpus, torch=None, notes=())


def test_a_gpu_is_read_without_what_identifies_the_device() -> None:
    nvml = FakeNvml(({**H200, "busy": 63, "pids": (4711,)},))
    detected = detect(nvml=nvml, environ={})
    (gpu,) = detected.gpus
    assert (gpu.name, gpu.total_bytes, gpu.compute_capability, gpu.driver) == ("NVIDIA H200", 143771 * MIB, "9.0", "580.95.05")
    assert (gpu.utilisation_pct, gpu.busy_pids, gpu.busy) == (63, (4711,), True)
    assert (gpu.sm_count, gpu.free_bytes) == (132, 143171 * MIB)
    assert "GPU-aaaa" not in repr(detected)
    assert not nvml.open


def test_our_own_process_does_not_make_a_gpu_busy() -> None:
    (gpu,) = detect(nvml=FakeNvml(({**H200, "pids": (os.getpid(),)},)), environ={}).gpus
    assert not gpu.busy


def test_a_question_that_the_driver_does_not_support_is_left_open() -> None:
    names = ("MemoryInfo", "UtilizationRates", "ComputeRunningProcesses", "NumGpuCores", "MaxClockInfo", "MemoryBusWidth", "UUID")
    nvml = FakeNvml(({**H200, "name": "NVIDIA GB10"},), unsupported=frozenset(f"nvmlDeviceGet{name}" for name in names))
    detected = detect(nvml=nvml, environ={})
    (gpu,) = detected.gpus
    assert (gpu.total_bytes, gpu.free_bytes, gpu.utilisation_pct, gpu.busy_pids, gpu.sm_count) == (None, None, None, (), None)
    assert detected_hardware(detected) == load_hardware("dgx-spark-gb10")


def test_older_bindings_answer_in_bytes() -> None:
    (gpu,) = detect(nvml=FakeNvml(({**H200, "name": b"NVIDIA H200"},), driver=b"535.1"), environ={}).gpus
    assert (gpu.name, gpu.driver) == ("NVIDIA H200", "535.1")


@pytest.mark.parametrize("question", ["nvmlInit", "nvmlDeviceGetHandleByIndex"])
def test_a_driver_that_fails_is_a_note_and_a_cpu(question: str) -> None:
    detected = detect(nvml=FakeNvml((H200,), unsupported=frozenset({question})), environ={})
    assert detected.gpus == ()
    assert detected.notes == ("NVML: Not Supported",)
    assert detected_hardware(detected).kind == "cpu"


def test_without_a_driver_nothing_is_loaded_and_the_cpu_is_found(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("processor\t: 0\nmodel name\t: Some CPU @ 2.00GHz\nflags\t\t: avx avx2 fma\n")
    (tmp_path / "proc/meminfo").write_text("MemTotal: 4194304 kB\nMemAvailable: 4000000 kB\n")
    detected = detect(root=tmp_path, environ={})
    assert detected.notes == ("no NVIDIA driver found",)
    hardware = detected_hardware(detected)
    assert (hardware.id, hardware.memory_bytes, hardware.cores) == ("this-cpu", 2**32, 1)
    assert hardware.peak("fp32") == 2.0e9 * 32
    assert fingerprint(detected) == "cpu:some*1/avx2/ram4g"


@pytest.mark.parametrize(
    ("visible", "left"),
    [
        (None, [0, 1]),
        ("1", [1]),
        ("1,0", [1, 0]),
        ("", []),
        ("-1", []),
        ("0,-1,1", [0]),
        ("GPU-bbbb", [1]),
        ("GPU-b", [1]),
        ("GPU-", []),
        ("7", []),
    ],
)
def test_cuda_visible_devices_is_honoured(visible: str | None, left: list[int]) -> None:
    gpus = [(replace(_gpu("a"), index=0), "GPU-aaaa"), (replace(_gpu("b"), index=1), "GPU-bbbb")]
    chosen, note = visible_gpus(gpus, visible)
    assert [gpu.index for gpu, _ in chosen] == left
    assert (note is None) == (len(left) == 2)


@pytest.mark.parametrize(
    ("name", "mib", "id"),
    [
        ("NVIDIA H200", 143771, "h200-sxm"),
        ("NVIDIA H100 80GB HBM3", 81559, "h100-sxm"),
        ("NVIDIA H100 PCIe", 81559, "h100-pcie"),
        ("NVIDIA A100-SXM4-80GB", 81920, "a100-sxm-80g"),
        ("A100-SXM4-40GB", 40536, "a100-sxm-40g"),
        ("NVIDIA A100 80GB PCIe", 81920, "a100-pcie-80g"),
        ("Tesla T4", 15360, "t4"),
        ("Tesla V100-SXM2-32GB", 32510, "v100-sxm2-32g"),
        ("NVIDIA L40S", 46068, "l40s"),
        ("NVIDIA GeForce RTX 4090", 24564, "rtx-4090"),
        ("NVIDIA GeForce RTX 3060", 12288, "rtx-3060-12g"),
        ("NVIDIA RTX 6000 Ada Generation", 49140, "rtx-6000-ada"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", 97887, "rtx-pro-6000-blackwell"),
        ("AMD Instinct MI300X", 196592, "mi300x"),
        ("Intel(R) Arc(TM) A770 Graphics", 15473, "arc-a770"),
        ("NVIDIA GB10", None, "dgx-spark-gb10"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", 16376, None),
        ("NVIDIA GeForce RTX 4090 D", 24564, None),
        ("NVIDIA GeForce RTX 4080 SUPER", 16376, "rtx-4080-super"),
        ("NVIDIA GeForce RTX 5060 Ti", 16311, "rtx-5060-ti-16g"),
        ("NVIDIA GeForce RTX 5060 Ti", 8151, None),
        ("NVIDIA RTX A5000", 24564, "rtx-a5000"),
        ("NVIDIA L20", 46068, "l20"),
        ("NVIDIA GeForce RTX 4080 Laptop GPU", 12282, None),
        ("NVIDIA GeForce RTX 3060", 8192, None),
        ("NVIDIA GeForce RTX 3080", 12288, None),
        ("NVIDIA GeForce RTX 2080 Ti", 22528, None),
        ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", 97887, None),
        ("NVIDIA RTX 4000 SFF Ada Generation", 20475, None),
        ("NVIDIA H200", 17920, None),
        ("NVIDIA GTX 1080", 8192, None),
    ],
)
def test_a_name_and_its_memory_lead_to_the_accelerator_or_to_none(name: str, mib: int | None, id: str | None) -> None:
    assert match_accelerator(_gpu(name, mib)) == id


def test_every_name_leads_to_an_accelerator_that_ships() -> None:
    assert accelerator_ids() <= set(shipped_hardware())


def test_nvidia_gpus_of_the_catalogue_can_all_be_detected() -> None:
    nvidia = {id for id in shipped_hardware() if load_hardware(id).vendor == "NVIDIA"}
    assert nvidia <= accelerator_ids()


def test_apples_processors_are_named_as_in_the_catalogue() -> None:
    apple = {id: load_hardware(id).name for id in shipped_hardware() if id.startswith("apple")}
    assert {id: match_accelerator_name(name) for id, name in apple.items()} == {id: id for id in apple}


def test_a_known_gpu_keeps_its_data_sheet_and_takes_the_drivers_memory() -> None:
    hardware = detected_hardware(detect(nvml=FakeNvml((H200,)), environ={}))
    assert hardware.id == "h200-sxm"
    assert hardware.memory_bytes == 143771 * MIB
    assert hardware.peak("bf16") == load_hardware("h200-sxm").peak("bf16")
    assert "this machine" in hardware.sources["memory_bytes"]


def test_a_gpu_outside_the_catalogue_is_computed_from_what_its_driver_tells() -> None:
    hardware = detected_hardware(detect(nvml=FakeNvml((A5000,)), environ={}))
    assert hardware.id == "this-gpu"
    assert hardware.memory_bytes == 24564 * MIB
    # NVIDIA's data sheet: 768 GB/s, 27.8 TFLOP/s fp32, 111.1 TFLOP/s fp16
    assert hardware.memory_bandwidth_bytes_per_s == pytest.approx(768e9, rel=0.01)
    assert hardware.peak("fp32") == pytest.approx(27.8e12, rel=0.01)
    assert hardware.peak("bf16") == pytest.approx(111.1e12, rel=0.01)


@pytest.mark.parametrize(
    ("id", "name", "boost_ghz"),
    [
        ("t4", "Tesla T4", 1.59),
        ("v100-sxm2-32g", "Tesla V100", 1.53),
        ("a100-sxm-80g", "NVIDIA A100", 1.41),
        ("a40", "NVIDIA A40", 1.74),
        ("rtx-3090", "NVIDIA GeForce RTX 3090", 1.695),
        ("rtx-4090", "NVIDIA GeForce RTX 4090", 2.52),
        ("l4", "NVIDIA L4", 2.04),
        ("h100-sxm", "NVIDIA H100", 1.83),
        ("b200-sxm", "NVIDIA B200", 1.85),
        ("rtx-5090", "NVIDIA GeForce RTX 5090", 2.407),
    ],
)
def test_the_rates_by_architecture_give_the_data_sheets_at_their_boost_clocks(id: str, name: str, boost_ghz: float) -> None:
    sheet = load_hardware(id)
    gpu = replace(
        _gpu(name, 1000),
        compute_capability=sheet.compute_capability,
        sm_count=sheet.sm_count,
        sm_hertz=boost_ghz * 1e9,
        memory_hertz=1e9,
        memory_bus_bits=384,
    )
    computed = gpu_hardware(gpu)
    for format in set(computed.peak_flops) & set(sheet.peak_flops):
        # sheets of Hopper and Blackwell count fp32 at a higher clock than their tensor figures
        tolerance = 0.15 if format == "fp32" else 0.05
        assert computed.peak(format) == pytest.approx(sheet.peak(format), rel=tolerance), format


def test_a_gpu_of_which_too_little_is_known_is_an_error_with_a_way_out() -> None:
    with pytest.raises(AdvisorError) as caught:
        detected_hardware(_detected(_gpu("Some GPU", 8192)))
    assert (caught.value.code, caught.value.exit_code) == ("hardware-unknown", ExitCode.MISSING)
    assert "--hardware" in caught.value.help[0]


def test_a_cpu_says_that_its_bandwidth_is_assumed() -> None:
    hardware = cpu_hardware(_host())
    assert "assumed" in hardware.sources["memory_bandwidth_bytes_per_s"]
    assert hardware.memory_bandwidth_bytes_per_s == 24e9
    assert hardware.peak("fp32") == 2 * 2.6e9 * 32
    assert hardware.peak("bf16") == 2 * hardware.peak("fp32")
    assert hardware.peak("int8") == 4 * hardware.peak("fp32")


def test_assumed_bandwidth_stops_at_what_sockets_of_that_kind_have() -> None:
    assert cpu_hardware(_host(cores=16, usable_cores=16)).memory_bandwidth_bytes_per_s == 60e9
    assert cpu_hardware(_host(cores=128, usable_cores=128, sockets=2)).memory_bandwidth_bytes_per_s == 400e9


def test_an_apple_processor_takes_the_bandwidth_of_the_catalogue() -> None:
    hardware = cpu_hardware(_host("Apple M2 Max", instruction_sets=("neon", "bf16", "i8mm"), vendor="Apple", family=None))
    assert hardware.memory_bandwidth_bytes_per_s == 400e9


@pytest.mark.parametrize(
    ("sets", "family", "wanted"),
    [
        (("avx2", "fma"), 6, {"fp32": 32}),
        (("avx2", "fma", "avx512f"), 6, {"fp32": 64}),
        (("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8"), 6, {"fp32": 64, "bf16": 1024, "int8": 2048}),
        (("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16"), 26, {"fp32": 64, "bf16": 128, "int8": 256}),
        (("neon", "sve", "bf16", "i8mm"), None, {"fp32": 16, "bf16": 64, "int8": 128}),
        ((), None, {"fp32": 8}),
    ],
)
def test_width_follows_from_the_instruction_sets(sets: tuple[str, ...], family: int | None, wanted: dict[str, int]) -> None:
    result = flops_per_cycle(_host(instruction_sets=sets, family=family).cpu)
    assert {format: flops for format, (flops, _) in result.items()} == wanted


def test_a_machine_without_a_memory_figure_is_an_error() -> None:
    with pytest.raises(AdvisorError, match="memory of this linux-x86_64 machine"):
        cpu_hardware(_host(total=0))


@pytest.mark.parametrize(
    ("detected", "wanted"),
    [
        (_detected(_gpu("NVIDIA H200", 143771)), "gpu:h200-sxm-140g*1/sm90/drv580"),
        (_detected(_gpu("NVIDIA H200", 143771), _gpu("NVIDIA H200", 143771)), "gpu:h200-sxm-140g*2/sm90/drv580"),
        (_detected(_gpu("NVIDIA RTX A5000-24Q", 24564)), "gpu:nvidia-rtx-a5000-24q-24g*1/sm90/drv580"),
        (_detected(), "cpu:amd-epyc*2/avx512-bf16/ram24g"),
        (
            _detected(host=_host("Intel(R) Core(TM) i9-9880H CPU @ 2.30GHz", instruction_sets=("avx2",))),
            "cpu:intel-core-i9-9880h*2/avx2/ram24g",
        ),
        (_detected(host=_host("AMD Ryzen 9 7950X 16-Core Processor")), "cpu:amd-ryzen-9-7950x*2/avx512-bf16/ram24g"),
    ],
)
def test_a_fingerprint_names_the_kind_of_machine(detected: Detected, wanted: str) -> None:
    assert fingerprint(detected) == wanted


@pytest.mark.parametrize(
    ("kib", "gib"), [(24684092, 24), (24684092 - 200_000, 24), (131_600_000, 128), (131_000_000, 128), (1_056_000_000, 1024)]
)
def test_a_fingerprint_survives_a_kernel_that_keeps_a_little_more_memory(kib: int, gib: int) -> None:
    assert fingerprint(_detected(host=_host(total=kib * 1024))).endswith(f"/ram{gib}g")


def test_devices_counts_gpus_alike_the_first() -> None:
    assert _detected().devices == 1
    assert _detected(_gpu("a"), _gpu("b"), _gpu("a")).devices == 2


def test_this_machine_reads_as_hardware_and_keeps_its_fingerprint() -> None:
    first, second = detect(), detect()
    hardware = detected_hardware(first)
    assert hardware.memory_bytes > 0
    assert hardware.figures() <= set(hardware.sources)
    assert fingerprint(first) == fingerprint(second)


def test_detecting_imports_no_torch() -> None:
    heavy = "{'torch', 'numpy', 'transformers'}"
    code = f"import sys; from advisor.backends.detection.detect import detect; detect(); print(sorted({heavy} & set(sys.modules)))"
    root = ROOT
    assert subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_torch_is_imported_only_on_request() -> None:
    torch = pytest.importorskip("torch")
    result = detect(with_torch=True, environ={}).torch
    assert result is not None
    assert result.version == torch.__version__
    assert detect(environ={}).torch is None
