"""Counts the parameters of the towers of multimodal models as transformers builds them, on the meta device, and prints a CSV table.

    python tools/count_towers.py tests/profiles/tower_configs.json > tests/profiles/tower_counts.csv

Everything but the language model and its head is a tower or its projector.
"""

import argparse
import csv
import json
import sys
from pathlib import Path
from typing import Any

LANGUAGE = ("language_model", "lm_head", "text_model")


def main(file: Path) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(("family", "meta_parameters"))
    for name, config in json.loads(file.read_text(encoding="utf-8")).items():
        writer.writerow((name, count(config)))


def count(config: dict[str, Any]) -> int:
    """Parameters of a model beside its language model."""
    import torch  # heavy, so imported only when counting
    from transformers import AutoConfig, AutoModelForImageTextToText

    fields = dict(config)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(AutoConfig.for_model(fields.pop("model_type"), **fields))
    return sum(parameter.numel() for name, parameter in model.named_parameters() if not any(part in name for part in LANGUAGE))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, metavar="FILE", help="a JSON mapping of names to configs")
    main(parser.parse_args().file)
