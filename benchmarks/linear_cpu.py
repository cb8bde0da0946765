"""Times quantised linears against bf16 `nn.Linear` on this CPU: single operators by rows, then a random Llama's decode and prefill.

`python benchmarks/linear_cpu.py [--threads 2] [--model small|large|none] [--out FOLDER]`. Candidates take turns, so that other
load on the machine hits all alike; nothing is timed unless every kernel first agrees with its fp64 reference.
"""

import argparse
import copy
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from advisor.backends.quantised import quantise_linears, weight_bytes
from advisor.kernels.kernel import relative_error
from advisor.kernels.registry import KERNELS

ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 512)
SHAPES = ((1024, 1024), (2816, 1024), (1024, 2816), (256, 256))
"""Output and input features."""
FORMATS: dict[str, tuple[str, int | None] | None] = {
    "bf16": None,
    "int8": ("int8", None),
    "int4-g32": ("int4", 32),
    "int4-g128": ("int4", 128),
}
MODELS = {
    "small": {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 12, "num_attention_heads": 16},
    "large": {"hidden_size": 1280, "intermediate_size": 3456, "num_hidden_layers": 16, "num_attention_heads": 20},
}
"""About 207 M and 365 M parameters, an embedding and a head of 32 000 words among them; head and embedding stay bf16."""
WORKING_SET_BYTES = 128e6
"""Copies of a layer that take turns hold this much in bf16: more than a processor's cache, as a model's weights do."""

Candidates = dict[str, Callable[[], object]]
Samples = dict[str, list[float]]


def main() -> int:
    """Check, time, print; returns the exit code."""
    options = _options()
    torch.set_num_threads(options.threads)
    red = _red_checks()
    if red:
        print("\n".join(red), "no speed is reported on a red check", sep="\n", file=sys.stderr)
        return 1
    environment = _environment()
    results: list[dict[str, Any]] = []
    with torch.inference_mode():
        if not options.no_operators:
            results += _time_operators(options.rounds)
        for name in [options.model] if options.model != "none" else []:
            results += _time_model(name, options.rounds)
    environment["load_after"] = os.getloadavg()
    if options.out:
        _write(options.out, {"environment": environment, "seconds": results})
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--model", choices=[*MODELS, "none"], default="small")
    parser.add_argument("--no-operators", action="store_true", help="time only the model")
    parser.add_argument("--out", type=Path, help="folder under which cpu-DATE/linear_cpu.json gets the raw samples")
    return parser.parse_args()


def _red_checks() -> list[str]:
    """One line for each kernel and shape whose error is above its tolerance, or not a number."""
    cases = [(kernel, shape) for kernel in KERNELS for shape in kernel.shapes]
    errors = [(kernel, shape, relative_error(kernel, kernel.inputs(*shape))) for kernel, shape in cases]
    print(f"{len(errors)} checks against fp64, largest relative error {max(error for *_, error in errors):.1e}")
    return [
        f"{kernel.name} {shape}: error {error:.2e} above {kernel.tolerance:.0e}"
        for kernel, shape, error in errors
        if not error <= kernel.tolerance
    ]


def _time_operators(rounds: int) -> list[dict[str, Any]]:
    results = []
    for n, k in SHAPES:
        copies = max(2, int(WORKING_SET_BYTES / (2 * n * k)))
        layers = {name: _layers(n, k, form, min(copies, 64)) for name, form in FORMATS.items()}
        for m in ROWS:
            x = torch.randn(m, k).to(torch.bfloat16)
            candidates: Candidates = {name: _pass_through(layers[name], x) for name in layers}
            samples = _take_turns(candidates, rounds if m <= 64 else max(3, rounds // 3))
            per_layer = {name: [s / len(layers[name]) for s in values] for name, values in samples.items()}
            results.append({"what": "operator", "n": n, "k": k, "m": m, "samples": per_layer})
            _report(f"{n}x{k} rows {m}", per_layer)
    return results


def _layers(n: int, k: int, form: tuple[str, int | None] | None, copies: int) -> list[nn.Module]:
    model = nn.ModuleList(nn.Linear(k, n, bias=False, dtype=torch.bfloat16) for _ in range(copies))
    if form:
        quantise_linears(model, *form)
    return list(model)


def _pass_through(layers: list[nn.Module], x: torch.Tensor) -> Callable[[], object]:
    return lambda: [layer(x) for layer in layers]


def _time_model(name: str, rounds: int) -> list[dict[str, Any]]:
    models = _models(name)
    results: list[dict[str, Any]] = [
        {"what": "bytes", "model": name, "bytes": {form: weight_bytes(model) for form, model in models.items()}}
    ]
    for form, model in models.items():
        held = weight_bytes(model)
        linears, total = held["linear"] + held["scales"], sum(held.values())
        print(f"{name} {form}: {total / 2**20:.0f} MiB of weights, of which linears {linears / 2**20:.0f} MiB")
    for what, batch, tokens in (("decode", 1, 1), ("decode", 4, 1), ("decode", 16, 1), ("prefill", 1, 128), ("prefill", 1, 512)):
        candidates: Candidates = {form: _step(model, batch, tokens, cached=32 if what == "decode" else 0) for form, model in models.items()}
        samples = _take_turns(candidates, 4 * rounds if what == "decode" else rounds)
        results.append({"what": what, "model": name, "batch": batch, "tokens": tokens, "samples": samples})
        _report(f"{name} {what} batch {batch} tokens {tokens}", samples)
    return results


def _models(name: str) -> dict[str, nn.Module]:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32000, num_key_value_heads=MODELS[name]["num_attention_heads"] // 2, attn_implementation="sdpa", **MODELS[name]
    )
    plain: nn.Module = LlamaForCausalLM(config).to(torch.bfloat16).eval()
    models = {form: copy.deepcopy(plain) for form in FORMATS}
    for form, how in FORMATS.items():
        if how:
            quantise_linears(models[form], *how)
    return models


def _step(model: nn.Module, batch: int, tokens: int, *, cached: int) -> Callable[[], object]:
    """One forward pass behind `cached` tokens; the cache is cut back afterwards, so that every call does the same."""
    from transformers import DynamicCache

    cache = DynamicCache()
    if cached:
        model(torch.randint(0, 32000, (batch, cached)), past_key_values=cache, logits_to_keep=1)
    given = torch.randint(0, 32000, (batch, tokens))

    def run() -> None:
        model(given, past_key_values=cache, logits_to_keep=1)
        cache.crop(-tokens) if cached else cache.reset()

    return run


def _take_turns(candidates: Candidates, rounds: int) -> Samples:
    """Seconds of each call, candidates in turn; the first round warms up and does not count."""
    samples: Samples = {name: [] for name in candidates}
    for round_number in range(rounds + 1):
        for name, run in candidates.items():
            start = time.perf_counter()
            run()
            if round_number:
                samples[name].append(time.perf_counter() - start)
    return samples


def _report(title: str, samples: Samples) -> None:
    """Median and range of each candidate, and its speed over bf16: ratio of medians, range of the ratios of one round."""
    cells = []
    for name, values in samples.items():
        times = f"{statistics.median(values) * 1e3:.3f} [{min(values) * 1e3:.3f}, {max(values) * 1e3:.3f}] ms"
        ratios = [plain / value for plain, value in zip(samples["bf16"], values, strict=True)]
        ratio = statistics.median(samples["bf16"]) / statistics.median(values)
        cells.append(f"{name} {times}" + ("" if name == "bf16" else f" {ratio:.2f}x [{min(ratios):.2f}, {max(ratios):.2f}]"))
    print(title, " | ".join(cells), sep=": ", flush=True)


def _environment() -> dict[str, Any]:
    cpu = next((line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), platform.processor())
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    return {
        "command": sys.argv,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip() or None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "processor": cpu,
        "cores": os.cpu_count(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "openmp": {name: value for name, value in os.environ.items() if name.startswith(("OMP_", "KMP_", "GOMP_"))},
        "load_before": os.getloadavg(),
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines() if Path(path).exists() else []


def _write(folder: Path, record: dict[str, Any]) -> None:
    file = folder / f"cpu-{record['environment']['started'][:10]}" / "linear_cpu.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"raw samples: {file}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
