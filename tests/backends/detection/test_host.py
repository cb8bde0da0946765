from pathlib import Path

import pytest

from advisor.backends.detection.cgroup import cgroup_limits
from advisor.backends.detection.host import HOST_ROOT, core_of_processor, linux_host, mac_host, parse_cpu_list, parse_meminfo, read_host

MEMINFO = """MemTotal:       24684092 kB
MemFree:        20381776 kB
MemAvailable:   21582620 kB
Buffers:           16808 kB
HugePages_Total:       0
"""

XEON = """processor\t: {number}
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 143
model name\t: Intel(R) Xeon(R) Platinum 8480+
cpu MHz\t\t: 3799.999
physical id\t: {socket}
core id\t\t: {core}
flags\t\t: fpu avx avx2 fma f16c avx512f avx512_bf16 avx512_vnni amx_bf16 amx_tile amx_int8

"""

GRAVITON = """processor\t: {number}
BogoMIPS\t: 2100.00
Features\t: fp asimd evtstrm asimdhp asimddp sve i8mm bf16
CPU implementer\t: 0x41
CPU architecture: 8
CPU part\t: 0xd40

"""


def _write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def _xeon(root: Path) -> Path:
    """Two sockets of four cores, two threads each: processors 0-7 are the first threads, 8-15 the second."""
    cpuinfo = "".join(XEON.format(number=n, socket=n % 8 // 4, core=n % 4) for n in range(16))
    cache = "sys/devices/system/cpu/cpu0/cache"
    return _write(
        root,
        {
            "proc/cpuinfo": cpuinfo,
            "proc/meminfo": MEMINFO,
            f"{cache}/index1/level": "1\n",
            f"{cache}/index1/type": "Instruction\n",
            f"{cache}/index2/level": "2\n",
            f"{cache}/index2/type": "Unified\n",
            f"{cache}/index2/size": "2048K\n",
            f"{cache}/index2/shared_cpu_list": "0,8\n",
            f"{cache}/index3/level": "3\n",
            f"{cache}/index3/type": "Unified\n",
            f"{cache}/index3/size": "105M\n",
            f"{cache}/index3/shared_cpu_list": "0-3,8-11\n",
            "sys/devices/system/cpu/cpu0/cpufreq/base_frequency": "2000000\n",
        },
    )


def test_meminfo_is_read_in_bytes() -> None:
    memory = parse_meminfo(MEMINFO)
    assert memory["MemTotal"] == 24684092 * 1024
    assert "HugePages_Total" not in memory


def test_threads_of_one_core_count_as_one_core(tmp_path: Path) -> None:
    cpu = linux_host(_xeon(tmp_path), frozenset(range(16))).cpu
    assert (cpu.sockets, cpu.cores, cpu.threads) == (2, 8, 16)
    assert (cpu.usable_cores, cpu.usable_threads) == (8, 16)
    assert cpu.model == "Intel(R) Xeon(R) Platinum 8480+"
    assert {"avx512_bf16", "amx_bf16", "amx_int8"} <= set(cpu.instruction_sets)


def test_affinity_narrows_what_is_usable(tmp_path: Path) -> None:
    cpu = linux_host(_xeon(tmp_path), frozenset({0, 8, 1})).cpu
    assert (cpu.usable_cores, cpu.usable_threads, cpu.cores) == (2, 3, 8)


def test_caches_are_counted_once_for_those_who_share_them(tmp_path: Path) -> None:
    cpu = linux_host(_xeon(tmp_path), frozenset(range(16))).cpu
    assert cpu.l2_bytes == 8 * 2 * 2**20
    assert cpu.l3_bytes == 2 * 105 * 2**20


def test_the_base_clock_is_preferred_to_what_runs_now(tmp_path: Path) -> None:
    root = _xeon(tmp_path)
    cpu = linux_host(root, frozenset({0})).cpu
    assert (cpu.hertz, cpu.hertz_source) == (2.0e9, "base clock from sysfs")
    (root / "sys/devices/system/cpu/cpu0/cpufreq/base_frequency").unlink()
    cpu = linux_host(root, frozenset({0})).cpu
    assert (cpu.hertz, cpu.hertz_source) == (3799.999e6, "clock in /proc/cpuinfo")


def test_arm_without_topology_has_a_core_per_processor(tmp_path: Path) -> None:
    root = _write(
        tmp_path,
        {
            "proc/cpuinfo": "".join(GRAVITON.format(number=n) for n in range(4)),
            "proc/meminfo": MEMINFO,
            "proc/sys/abi/sve_default_vector_length": "32\n",
        },
    )
    cpu = linux_host(root, frozenset(range(4))).cpu
    assert (cpu.cores, cpu.usable_cores, cpu.model, cpu.vendor) == (4, 4, "ARM Neoverse V1", "ARM")
    assert cpu.instruction_sets == ("neon", "dotprod", "fp16", "bf16", "i8mm", "sve")
    assert cpu.sve_bytes == 32
    assert cpu.hertz is None


def test_version_2_limits_of_every_level_count(tmp_path: Path) -> None:
    root = _write(
        _xeon(tmp_path),
        {
            "proc/self/cgroup": "0::/user/job\n",
            "sys/fs/cgroup/user/job/cpu.max": "max 100000\n",
            "sys/fs/cgroup/user/job/memory.max": "max\n",
            "sys/fs/cgroup/user/cpu.max": "350000 100000\n",
            "sys/fs/cgroup/user/memory.max": f"{8 * 2**30}\n",
            "sys/fs/cgroup/user/memory.current": f"{5 * 2**30}\n",
            "sys/fs/cgroup/user/memory.stat": f"anon 7\ninactive_file {2**30}\n",
        },
    )
    assert cgroup_limits(root) == (3.5, 8 * 2**30, 4 * 2**30)
    host = linux_host(root, frozenset(range(16)))
    assert (host.cpu.usable_threads, host.cpu.usable_cores) == (3, 3)
    assert (host.ram_total_bytes, host.ram_available_bytes) == (8 * 2**30, 4 * 2**30)


def test_version_1_limits_are_read_and_its_no_limit_is_none(tmp_path: Path) -> None:
    root = _write(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n1:name=systemd:/\n0::/\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2**31}\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "1000\n",
            "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "150000\n",
            "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        },
    )
    assert cgroup_limits(root) == (1.5, 2**31, 1000)


def test_a_container_that_sees_only_its_own_mount_is_limited_by_it(tmp_path: Path) -> None:
    root = _write(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/docker/abc\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2**31}\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "0\n",
        },
    )
    assert cgroup_limits(root) == (None, 2**31, 0)


def test_without_cgroups_there_is_no_limit(tmp_path: Path) -> None:
    assert cgroup_limits(tmp_path) == (None, None, 0)


def test_a_quota_below_one_processor_still_leaves_one(tmp_path: Path) -> None:
    root = _write(_xeon(tmp_path), {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"})
    assert linux_host(root, frozenset(range(16))).cpu.usable_cores == 1


@pytest.mark.parametrize(("text", "processors"), [("0-3,8\n", {0, 1, 2, 3, 8}), ("5\n", {5}), ("", set())])
def test_lists_of_processors(text: str, processors: set[int]) -> None:
    assert parse_cpu_list(text) == processors


def test_a_processor_block_without_ids_is_its_own_core() -> None:
    assert core_of_processor("processor\t: 0\n\nprocessor\t: 1\n\n") == {0: (0, 0), 1: (0, 1)}


SYSCTL = """hw.ncpu: 12
hw.memsize: 103079215104
hw.physicalcpu: 12
hw.logicalcpu: 12
hw.packages: 1
hw.l2cachesize: 4194304
hw.optional.arm64: 1
hw.optional.arm.FEAT_BF16: 1
hw.optional.arm.FEAT_I8MM: 1
hw.optional.arm.FEAT_DotProd: 1
hw.optional.arm.FEAT_SME: 0
machdep.cpu.brand_string: Apple M2 Max
"""
VM_STAT = """Mach Virtual Memory Statistics: (page size of 16384 bytes)
Pages free:                             1000000.
Pages active:                            500000.
Pages inactive:                          200000.
Pages speculative:                        10000.
"""


def test_a_mac_is_read_from_sysctl() -> None:
    host = mac_host(SYSCTL, VM_STAT)
    assert (host.platform, host.cpu.model, host.cpu.vendor) == ("macos-arm64", "Apple M2 Max", "Apple")
    assert (host.cpu.cores, host.cpu.usable_cores) == (12, 12)
    assert host.cpu.instruction_sets == ("neon", "dotprod", "bf16", "i8mm")
    assert host.ram_total_bytes == 96 * 2**30
    assert host.ram_available_bytes == 1_210_000 * 16384


def test_an_intel_mac_names_its_features() -> None:
    text = (
        "hw.memsize: 34359738368\nhw.physicalcpu: 8\nhw.logicalcpu: 16\nhw.cpufrequency: 2300000000\n"
        "machdep.cpu.vendor: GenuineIntel\nmachdep.cpu.brand_string: Intel(R) Core(TM) i9-9880H CPU @ 2.30GHz\n"
        "machdep.cpu.features: FPU SSE4.2 FMA AVX1.0 F16C\nmachdep.cpu.leaf7_features: AVX2 BMI2\n"
    )
    host = mac_host(text, "")
    assert host.cpu.instruction_sets == ("avx", "avx2", "fma", "f16c")
    assert (host.platform, host.cpu.hertz, host.cpu.usable_threads) == ("macos-x86_64", 2.3e9, 16)
    assert host.ram_available_bytes == host.ram_total_bytes


def test_a_mac_that_answers_nothing_is_no_crash() -> None:
    host = mac_host("", "")
    assert host.ram_total_bytes == 0
    assert host.cpu.usable_cores >= 1


def test_this_machine_is_read() -> None:
    host = read_host(Path("/"))
    assert host.ram_total_bytes > 2**28
    assert 0 < host.ram_available_bytes <= host.ram_total_bytes
    assert 1 <= host.cpu.usable_cores <= host.cpu.cores <= host.cpu.threads


def test_another_root_is_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = _write(_xeon(tmp_path), {"proc/self/status": "Name:\tpython\nCpus_allowed_list:\t0,8,1\n", "proc/sys/kernel/arch": "x86_64\n"})
    monkeypatch.setenv(HOST_ROOT, str(root))
    host = read_host()
    assert (host.cpu.usable_cores, host.cpu.usable_threads, host.platform) == (2, 3, "linux-x86_64")
