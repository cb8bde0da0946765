"""Drivers' names of the accelerators in the catalogue."""

import re

# Names after `_plain`, and ids of the catalogue. Names match exactly, because a suffix (Laptop GPU, Max-Q, D, SUPER) is another device.
_IDS = {
    "t4": "t4",
    "v100 pcie 32gb": "v100-pcie-32g",
    "v100 sxm2 32gb": "v100-sxm2-32g",
    "v100 sxm3 32gb": "v100-sxm2-32g",
    "a10": "a10",
    "a10g": "a10g",
    "a16": "a16",
    "a30": "a30",
    "a40": "a40",
    "a100 pcie 40gb": "a100-pcie-40g",
    "a100 sxm4 40gb": "a100-sxm-40g",
    "a100 80gb pcie": "a100-pcie-80g",
    "a100 pcie 80gb": "a100-pcie-80g",
    "a100 sxm4 80gb": "a100-sxm-80g",
    "l4": "l4",
    "l40": "l40",
    "l40s": "l40s",
    "h100 pcie": "h100-pcie",
    "h100 80gb hbm3": "h100-sxm",
    "h100 sxm5 80gb": "h100-sxm",
    "h100 nvl": "h100-nvl",
    "gh200 480gb": "gh200-96g",
    "gh200 96gb hbm3": "gh200-96g",
    "h20": "h20",
    "h200": "h200-sxm",
    "h200 nvl": "h200-nvl",
    "b200": "b200-sxm",
    "gb200": "gb200",
    "b300 sxm6 ac": "b300-sxm",
    "b300": "b300-sxm",
    "gb300": "gb300",
    "rtx pro 6000 blackwell server edition": "rtx-pro-6000-blackwell",
    "rtx pro 6000 blackwell workstation edition": "rtx-pro-6000-blackwell",
    "rtx 6000 ada": "rtx-6000-ada",
    "rtx 5000 ada": "rtx-5000-ada",
    "rtx 4000 ada": "rtx-4000-ada",
    "rtx a6000": "rtx-a6000",
    "rtx a4000": "rtx-a4000",
    "rtx 2080 ti": "rtx-2080-ti",
    "rtx 3060": "rtx-3060-12g",
    "rtx 3070": "rtx-3070",
    "rtx 3080": "rtx-3080-10g",
    "rtx 3080 ti": "rtx-3080-ti",
    "rtx 3090": "rtx-3090",
    "rtx 3090 ti": "rtx-3090-ti",
    "rtx 4060 ti": "rtx-4060-ti-16g",
    "rtx 4070": "rtx-4070",
    "rtx 4070 ti": "rtx-4070-ti",
    "rtx 4080": "rtx-4080",
    "rtx 4090": "rtx-4090",
    "rtx 5070 ti": "rtx-5070-ti",
    "rtx 5080": "rtx-5080",
    "rtx 5090": "rtx-5090",
    "gb10": "dgx-spark-gb10",
    "orin": "jetson-agx-orin-64g",
    "mi100": "mi100",
    "mi210": "mi210",
    "mi300x": "mi300x",
    "mi300x vf": "mi300x",
    "mi325x": "mi325x",
    "mi350x": "mi350x",
    "mi355x": "mi355x",
    "rx 7900 xtx": "rx-7900-xtx",
    "rx 7900 xt": "rx-7900-xt",
    "8060s": "ryzen-ai-max-395",
    "data center gpu max 1550": "intel-max-1550",
    "data center gpu max 1100": "intel-max-1100",
    "arc a770": "arc-a770",
    "arc b580": "arc-b580",
    "arc pro b60": "arc-pro-b60",
    "apple m1": "apple-m1-7",
    "apple m1 pro": "apple-m1-pro",
    "apple m1 max": "apple-m1-max-32",
    "apple m1 ultra": "apple-m1-ultra",
    "apple m2": "apple-m2",
    "apple m2 pro": "apple-m2-pro",
    "apple m2 max": "apple-m2-max",
    "apple m2 ultra": "apple-m2-ultra-76",
    "apple m3": "apple-m3",
    "apple m3 pro": "apple-m3-pro",
    "apple m3 max": "apple-m3-max-40",
    "apple m3 ultra": "apple-m3-ultra",
    "apple m4": "apple-m4",
    "apple m4 pro": "apple-m4-pro",
    "apple m4 max": "apple-m4-max",
}


def match_accelerator_name(name: str) -> str | None:
    """The id in the catalogue of a driver's device name; `None` where it is not in the catalogue."""
    return _IDS.get(_plain(name))


def accelerator_ids() -> frozenset[str]:
    """All ids that `match_accelerator_name` can return."""
    return frozenset(_IDS.values())


def _plain(name: str) -> str:
    """The name in lower case, without vendor, brand and filler words, with punctuation as spaces."""
    words = re.sub(r"\((r|tm)\)|[-_/]", " ", name.lower()).split()
    filler = {"nvidia", "tesla", "geforce", "amd", "radeon", "instinct", "intel", "graphics", "generation", "corporation"}
    return " ".join(word for word in words if word not in filler)
