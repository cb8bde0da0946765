from pathlib import Path

import pytest
import yaml

import advisor.profiles.hardware as module
from advisor.profiles.errors import AdvisorError, ExitCode
from advisor.profiles.hardware import COMPUTE_FORMATS, Hardware, hardware_id, load_hardware, meaning_note, parse_hardware, shipped_hardware
from tests.paths import ROOT

IDS = shipped_hardware()


def test_the_module_wins_over_the_folder_of_the_same_name() -> None:
    assert module.__file__ is not None
    assert Path(module.__file__).name == "hardware.py"


def test_the_catalogue_holds_every_accelerator_of_the_measurements() -> None:
    assert len(IDS) >= 118
    assert {"l20", "rtx-5060-ti-16g", "rtx-4070-ti-super", "rtx-a5000", "rtx-pro-4500-blackwell", "rtx-2080-ti"} <= set(IDS)
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


@pytest.mark.parametrize(
    ("typed", "id"),
    [
        ("4090", "rtx-4090"), ("4090 24GB", "rtx-4090"), ("3090", "rtx-3090"), ("3090 Ti", "rtx-3090-ti"), ("3090ti", "rtx-3090-ti"),
        ("RTX3080Ti", "rtx-3080-ti"), ("4060 Ti 16GB", "rtx-4060-ti-16g"), ("5060 Ti", "rtx-5060-ti-16g"), ("4060", "rtx-4060"),
        ("RTX 4070 Ti Super", "rtx-4070-ti-super"), ("A5000", "rtx-a5000"), ("PRO 4500", "rtx-pro-4500-blackwell"), ("L20", "l20"),
        ("4500 Ada", "rtx-4500-ada"), ("Quadro RTX 8000", "rtx-8000"), ("Tesla P40", "p40"), ("Radeon Pro W7900", "radeon-pro-w7900"),
        ("MI50", "mi50-32g"),
        ("A6000", "rtx-a6000"), ("6000 Ada", "rtx-6000-ada"),
        ("RTX PRO 6000", "rtx-pro-6000-blackwell"), ("Tesla T4", "t4"), ("L4 24GB", "l4"), ("L40S 48GB", "l40s"), ("A10G", "a10g"),
        ("H100", "h100-sxm"), ("NVIDIA H100 80GB HBM3", "h100-sxm"), ("H100 SXM5", "h100-sxm"), ("H100 PCIe", "h100-pcie"),
        ("h100-pcie-80gb", "h100-pcie"), ("H100 94GB", "h100-nvl"), ("H200", "h200-sxm"), ("B200", "b200-sxm"), ("GB200 NVL72", "gb200"),
        ("A100 80GB", "a100-sxm-80g"), ("A100-SXM4-40GB", "a100-sxm-40g"), ("A100 PCIe 40 GB", "a100-pcie-40g"),
        ("Tesla V100-SXM2-32GB", "v100-sxm2-32g"), ("GH200", "gh200-96g"), ("Grace Hopper", "gh200-96g"), ("DGX Spark", "dgx-spark-gb10"),
        ("M1", "apple-m1-7"), ("M3 Max", "apple-m3-max-40"), ("Apple M2 Ultra", "apple-m2-ultra-76"), ("m4pro", "apple-m4-pro"),
        ("MI300X", "mi300x"), ("AMD Instinct MI100", "mi100"), ("7900 XTX", "rx-7900-xtx"), ("Strix Halo", "ryzen-ai-max-395"),
        ("B580", "arc-b580"), ("Data Center GPU Max 1550", "intel-max-1550"), ("Gaudi3", "gaudi-3"), ("TPU v5e", "tpu-v5e"),
        ("EPYC 9654", "epyc-9654-1s-96c-12ch-ddr5-4800"), ("i9-13900K", "core-i9-13900k-2ch-ddr5-5600"),
    ],
)  # fmt: skip
def test_names_without_maker_brand_or_size_are_found(typed: str, id: str) -> None:
    assert load_hardware(typed).id == hardware_id(typed) == id


@pytest.mark.parametrize(
    ("typed", "ids"),
    [
        ("A100", ("a100-pcie-40g", "a100-pcie-80g", "a100-sxm-40g", "a100-sxm-80g")),
        ("A100 PCIe", ("a100-pcie-40g", "a100-pcie-80g")),
        ("V100", ("v100-pcie-32g", "v100-sxm2-32g")),
    ],
)
def test_a_name_of_several_devices_lists_them(typed: str, ids: tuple[str, ...]) -> None:
    with pytest.raises(AdvisorError) as caught:
        load_hardware(typed)
    assert (caught.value.code, caught.value.field) == ("hardware-ambiguous", "hardware")
    assert caught.value.help[0] == f"did you mean {', '.join(ids)}?"


@pytest.mark.parametrize(
    "typed",
    ["4050", "RTX 4500", "4090 Super", "RTX 4090 Laptop GPU", "RTX 4090 D", "4090 48GB", "4060 Ti 8GB", "5060 Ti 8GB", "MI300",
     "H100 SXM PCIe", "V100 16GB",
     "A100 80GB 40GB", "7900", "RTX 6000", "Orin", "Gaudi", "rtx", "80GB", "Ti", "", " ", "x" * 500, "ñ"],
)  # fmt: skip
def test_another_device_is_not_taken_for_one_that_is_alike(typed: str) -> None:
    with pytest.raises(AdvisorError) as caught:
        load_hardware(typed)
    assert caught.value.code == "hardware-not-found"
    assert hardware_id(typed) == typed


def test_a_name_that_means_one_of_several_says_so() -> None:
    assert meaning_note("H100 80GB") == "H100 80GB is taken for h100-sxm; it may also be h100-pcie"
    assert not any(meaning_note(id) for id in (*IDS, "4090", "A100", "./some/file.yaml"))


def test_every_name_of_the_list_stands_for_its_device() -> None:
    record = yaml.safe_load((ROOT / "advisor/profiles/hardware_names.yaml").read_text(encoding="utf-8"))
    for name, id in (record["preferred"] | record["aliases"]).items():
        assert load_hardware(name).id == id


def data_sheet(folder: Path, **changes: object) -> str:
    """The file of a card with the figures that must be there; `None` takes one away."""
    record = {
        "id": "my-card", "name": "My Card", "vendor": "me", "arch": "Ada", "kind": "gpu", "memory_bytes": 24e9,
        "memory_bandwidth_bytes_per_s": "936e9", "peak_flops": {"bf16": 142e12},
    }  # fmt: skip
    path = folder / "card.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in (record | changes).items() if value is not None}))
    return str(path)


def test_a_data_sheet_of_the_users_own_is_read(tmp_path: Path) -> None:
    card = load_hardware(data_sheet(tmp_path, tdp_w=300, sources={"tdp_w": "the box"}))
    assert (card.id, card.memory_bytes, card.memory_bandwidth_bytes_per_s, card.peak("fp16")) == ("my-card", 24e9, 936e9, 142e12)
    assert card.sources == {
        "tdp_w": "the box",
        **dict.fromkeys(("memory_bytes", "memory_bandwidth_bytes_per_s", "peak_flops.bf16"), "stated in the data sheet given"),
    }
    assert isinstance(card, Hardware)


def test_what_the_catalogue_prints_is_a_data_sheet_once_it_has_an_id_of_its_own(tmp_path: Path) -> None:
    record = {"format": "1.0", **load_hardware("h200-sxm").model_dump(mode="json", exclude_none=True), "id": "h200-lab"}
    path = tmp_path / "h200.yml"
    path.write_text(yaml.safe_dump(record))
    assert load_hardware(str(path)) == load_hardware("h200-sxm").model_copy(update={"id": "h200-lab"})


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"id": "rtx-4090"}, "is in the catalogue"),
        ({"id": "this-cpu"}, "is in the catalogue"),
        ({"id": "../evil"}, "id: "),
        ({"memory_bytes": None}, "memory_bytes: field required"),
        ({"memory_bytes": "24 GiB"}, "memory_bytes: "),
        ({"memory_bytes": 2**62}, "memory_bytes: "),
        ({"memory_bandwidth_bytes_per_s": 936}, "memory_bandwidth_bytes_per_s: "),
        ({"peak_flops": {"bf16": 142}}, "only FLOP/s from 1e+06 to 1e+19"),
        ({"peak_flops": {"int8": 142e12}}, "peak_flops must hold fp32 or bf16"),
        ({"peak_flops": {"bf16": 142e12, "fp7": 1e12}}, "unknown formats: fp7"),
        ({"peak_flops": [1]}, "peak_flops: "),
        ({"sources": [1]}, "sources: "),
        ({"bandwidth": 1e12}, "bandwidth: extra inputs"),
        ({"kind": "fpga"}, "kind: "),
    ],
)
def test_a_wrong_data_sheet_is_refused_with_its_field(tmp_path: Path, changes: dict[str, object], problem: str) -> None:
    with pytest.raises(AdvisorError) as caught:
        load_hardware(data_sheet(tmp_path, **changes))
    assert (caught.value.code, caught.value.field) == ("bad-hardware", "hardware")
    assert problem in caught.value.message
    assert "advisor schema hardware" in caught.value.help[0]


@pytest.mark.parametrize("text", ["", "[1]", "7", "text"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "card.yaml").write_text(text)
    with pytest.raises(AdvisorError, match="a mapping of fields is needed"):
        load_hardware(str(tmp_path / "card.yaml"))


def test_a_data_sheet_that_is_not_there_is_named() -> None:
    with pytest.raises(AdvisorError) as caught:
        load_hardware("nowhere/card.yaml")
    assert caught.value.code == "file-not-found"


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
        load_hardware("H10")
    assert caught.value.code == "hardware-not-found"
    assert caught.value.exit_code is ExitCode.MISSING
    assert caught.value.help[0] == "did you mean h100-nvl, h100-pcie, h100-sxm?"


def test_an_id_cannot_leave_the_folder() -> None:
    with pytest.raises(AdvisorError, match="data sheet not found"):
        load_hardware("../hardware/t4")


def test_a_figure_without_a_source_is_refused() -> None:
    record = load_hardware("t4").model_dump()
    del record["sources"]["tdp_w"]
    with pytest.raises(AdvisorError, match="no source for tdp_w"):
        parse_hardware(record, what="hardware t4")


def test_a_record_survives_its_own_json() -> None:
    hardware = load_hardware("h200-sxm")
    assert Hardware.model_validate_json(hardware.model_dump_json()) == hardware
