from pathlib import Path

import pytest

import advisor.profiles.hardware as module
from advisor.profiles.errors import AdvisorError, ExitCode
from advisor.profiles.hardware import COMPUTE_FORMATS, Hardware, hardware_id, load_hardware, parse_hardware, shipped_hardware

IDS = shipped_hardware()


def test_the_module_wins_over_the_folder_of_the_same_name() -> None:
    assert module.__file__ is not None
    assert Path(module.__file__).name == "hardware.py"


def test_the_catalogue_holds_every_accelerator_of_the_measurements() -> None:
    assert len(IDS) == 92
    assert {"h100-sxm", "h200-sxm", "rtx-4090", "a100-sxm-80g", "l4", "mi300x", "apple-m2-ultra-76", "tpu-v5e"} <= set(IDS)


@pytest.mark.parametrize("id", IDS)
def test_every_file_is_valid_and_figures_are_plausible(id: str) -> None:
    hardware = load_hardware(id)
    assert hardware.id == id
    assert hardware.figures() <= set(hardware.sources)
    assert all(source.strip() for source in hardware.sources.values())
    assert 2 * 2**30 < hardware.memory_bytes < 600 * 2**30
    assert 5e10 < hardware.memory_bandwidth_bytes_per_s < 1e13
    assert hardware.peak("fp16") >= hardware.peak("fp32")
    assert hardware.peak("fp8") >= hardware.peak("bf16")
    assert hardware.peak("fp4") >= hardware.peak("fp8")
    assert 1e12 < hardware.peak("bf16") < 3e15
    # a machine balance outside 2 to 2000 FLOP per byte means a unit went wrong
    assert 2 < hardware.peak("bf16") / hardware.memory_bandwidth_bytes_per_s < 2000


@pytest.mark.parametrize("typed", ["RTX 4090", "rtx4090", "NVIDIA GeForce RTX 4090", "Rtx_4090"])
def test_a_device_is_found_by_its_name_as_people_write_it(typed: str) -> None:
    assert load_hardware(typed).id == "rtx-4090"
    assert [hardware_id(id) for id in IDS] == list(IDS)


@pytest.mark.parametrize("id", IDS)
def test_a_source_names_no_figure_that_is_absent(id: str) -> None:
    hardware = load_hardware(id)
    assert set(hardware.sources) == hardware.figures()


def test_links_are_one_direction_and_pcie_excludes_line_encoding() -> None:
    h100 = load_hardware("h100-sxm")
    assert h100.link_bytes_per_s == 450e9
    assert h100.pcie_bytes_per_s == pytest.approx(63.0e9, rel=0.001)
    assert load_hardware("rtx-4060-ti-16g").pcie_bytes_per_s == pytest.approx(15.75e9, rel=0.001)
    assert load_hardware("l4").link_bytes_per_s is None


def test_memory_is_what_the_driver_reports() -> None:
    mib = 2**20
    assert load_hardware("h100-sxm").memory_bytes == 81559 * mib
    assert load_hardware("l4").memory_bytes == 23034 * mib  # error correction takes a sixteenth
    assert load_hardware("rtx-4090").memory_bytes == 24564 * mib


def test_a_format_without_units_falls_back_to_the_one_that_stands_in() -> None:
    a100, t4, tpu = load_hardware("a100-sxm-80g"), load_hardware("t4"), load_hardware("tpu-v5e")
    assert a100.peak("fp8") == a100.peak("bf16") == 312e12
    assert a100.peak("fp4") == 312e12
    assert a100.peak("int8") == 624e12
    assert "bf16" not in t4.peak_flops
    assert t4.peak("bf16") == t4.peak_flops["fp16"]
    assert tpu.peak("fp32") == tpu.peak_flops["bf16"] / 6
    assert all(load_hardware("apple-m1-pro").peak(format) == 5.2e12 for format in COMPUTE_FORMATS)


def test_an_unknown_compute_format_says_what_is_allowed() -> None:
    with pytest.raises(AdvisorError) as caught:
        load_hardware("t4").peak("fp7")
    assert "bf16" in caught.value.help[0]


def test_an_unknown_id_names_its_neighbours() -> None:
    with pytest.raises(AdvisorError) as caught:
        load_hardware("H100")
    assert caught.value.code == "hardware-not-found"
    assert caught.value.exit_code is ExitCode.MISSING
    assert "h100-sxm" in caught.value.help[0]


def test_an_id_cannot_leave_the_folder() -> None:
    with pytest.raises(AdvisorError, match="unknown hardware"):
        load_hardware("../hardware/t4")


def test_a_figure_without_a_source_is_refused() -> None:
    record = load_hardware("t4").model_dump()
    del record["sources"]["tdp_w"]
    with pytest.raises(AdvisorError, match="no source for tdp_w"):
        parse_hardware(record, what="hardware t4")


def test_a_record_survives_its_own_json() -> None:
    hardware = load_hardware("h200-sxm")
    assert Hardware.model_validate_json(hardware.model_dump_json()) == hardware
