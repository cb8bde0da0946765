"""Compare the runtime's greedy tokens with those of transformers' own `generate`, for every decoder architecture of transformers.

Each architecture is built tiny and random, in several variants, in a process of its own. Transformers generates alone and eager; the
runtime batches requests of mixed lengths, with prompts in chunks and with drafts, past every window. Finished architectures stay in the
results, so run it again to go on; `--fresh` begins anew, names of architectures try those alone.
"""

import argparse
import csv
import multiprocessing
import os
import queue
import random
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advisor.backends.deployment import AttentionBackend, Batching, BatchPolicy, DecodeMethod, Decoding, KvCache, KvLayout
from advisor.profiles.errors import AdvisorError
from advisor.profiles.files import write_csv
from tools.architecture_configs import ORIGINAL, architectures, random_model, tiny_config, variants

if TYPE_CHECKING:
    from advisor.backends.runtime.engine import GenerationRequest

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results" / "architectures.csv"
LONGEST = 72
"""Tokens of the longest sequence: many times every window, more than twice the length up to which rotary frequencies hold."""
LIMIT_S = 120
"""Seconds for all variants of an architecture."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The verdict on a variant of an architecture."""

    architecture: str
    model_class: str
    variant: str
    verdict: str
    """`right`, `refused`, `wrong`, `not generated` where transformers' own `generate` fails, `not built` where it has no such model."""
    detail: str = ""
    """Why it was refused; in a right one, why the model's own code runs, if it does."""


def requests(longest: int, seed: int = 1) -> "list[GenerationRequest]":
    """Four requests of mixed lengths; the longest has `longest` tokens."""
    from advisor.backends.runtime.engine import GenerationRequest

    draw = random.Random(seed)
    outputs = (longest // 3, longest // 4, longest // 4, longest // 6)
    prompts = (3, longest - outputs[1], longest // 2, longest // 5)
    return [
        GenerationRequest(tuple(draw.randrange(3, 64) for _ in range(prompt)), output)
        for prompt, output in zip(prompts, outputs, strict=True)
    ]


def own_tokens(model: Any, request: "GenerationRequest") -> tuple[int, ...]:
    """What `model.generate` answers to the request alone, greedily."""
    import torch

    from advisor.backends.runtime.model.verification import greedy

    prompt = torch.tensor([request.prompt])
    out = model.generate(prompt, attention_mask=torch.ones_like(prompt), **greedy(request.output_tokens))
    return tuple(out[0, len(request.prompt) :].tolist())


def compare(model: Any, longest: int) -> tuple[str, str]:
    """The verdict on a model with sequences of up to `longest` tokens, and its detail."""
    jobs = requests(longest)
    try:
        own = [own_tokens(model, job) for job in jobs]
    except Exception as error:  # noqa: BLE001 - whatever the model's own code raises, there is nothing to compare with
        return "not generated", _first_line(error)
    if any(len(tokens) != job.output_tokens for tokens, job in zip(own, jobs, strict=True)):
        return "not generated", "generate returns other than the tokens asked for"
    return _compare_served(model, longest, jobs, own)


def _compare_served(model: Any, longest: int, jobs: "Sequence[GenerationRequest]", own: Sequence[tuple[int, ...]]) -> tuple[str, str]:
    from advisor.backends.runtime.engine import serve

    fallback = ""
    for name, session in sessions(model, longest).items():
        try:
            outcome = serve(session, jobs, concurrency=None)
        except AdvisorError as error:
            return "refused", error.message.partition(": ")[2] or error.message
        except Exception as error:  # noqa: BLE001 - what is neither an answer nor a refusal is a fault of ours
            return "wrong", f"served {name}, it fails with {_first_line(error)}"
        tokens = [done.tokens for done in outcome.finished]
        if tokens != own:
            first = next(at for at, (ours, theirs) in enumerate(zip(tokens, own, strict=True)) if ours != theirs)
            return "wrong", f"request {first} served {name}"
        fallback = outcome.fallback_reason or ""
    return "right", fallback


def sessions(model: Any, longest: int) -> dict[str, Any]:
    """The model in three deployments: plain, paged with chunked prefill, and with drafts."""
    import torch

    from advisor.backends.model.loaded_model import LoadedModel

    plain = LoadedModel(
        folder=Path(), model=model, tokenizer=None, device=torch.device("cpu"), max_tokens=longest, batching=Batching(max_sequences=3)
    )
    paged = replace(plain, kv=KvCache(layout=KvLayout.PAGED, block_tokens=4))
    packed = replace(
        paged, attention=replace(plain.attention, backend=AttentionBackend.SDPA), batching=Batching(BatchPolicy.CONTINUOUS, 3, 9)
    )
    return {
        "plain": plain,
        "with chunked prefill": packed,
        "with drafts": replace(paged, decoding=Decoding(DecodeMethod.PROMPT_LOOKUP, draft_tokens=3)),
    }


def findings_of(architecture: str, names: Sequence[str] | None = None) -> Iterator[Finding]:
    """The findings of the variants of an architecture, by default all."""
    label = architectures()[architecture]
    try:
        changes_by_name = variants(architecture)
    except Exception as error:  # noqa: BLE001 - a config that cannot be made tiny is a finding
        yield Finding(architecture, label, "plain", "not built", _first_line(error))
        return
    for name, changes in changes_by_name.items():
        if names is None or name in names:
            yield Finding(architecture, label, name, *_verdict(architecture, name, changes))


def _verdict(architecture: str, name: str, changes: Mapping[str, object]) -> tuple[str, str]:
    try:
        model = random_model(tiny_config(architecture, changes))
    except Exception as error:  # noqa: BLE001 - as above
        return "not built", _first_line(error)
    return compare(model, ORIGINAL if name.endswith(" short") else LONGEST)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:2])}"[:160]


def _child(architecture: str, results: "multiprocessing.Queue[Finding | None]") -> None:
    import torch
    import transformers

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    for finding in findings_of(architecture):
        results.put(finding)
    results.put(None)


def findings_in_child(architecture: str) -> list[Finding]:
    """The findings of an architecture, from a process of its own; one that ends early or takes too long is a finding, too."""
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[Finding | None] = context.Queue()
    child = context.Process(target=_child, args=(architecture, results))
    child.start()
    collected: list[Finding] = []
    while (finding := _next(child, results)) is not None:
        if isinstance(finding, str):
            collected.append(Finding(architecture, architectures()[architecture], "all", "not generated", finding))
            break
        collected.append(finding)
    child.kill()
    child.join()
    return collected


def _next(child: Any, results: "multiprocessing.Queue[Finding | None]") -> Finding | str | None:
    for _ in range(LIMIT_S):
        try:
            return results.get(timeout=1)
        except queue.Empty:
            if not child.is_alive():
                return f"its process ended with code {child.exitcode}"
    return f"it takes longer than {LIMIT_S} s"


def read_findings() -> list[Finding]:
    """The findings that are stored."""
    if not RESULTS.is_file():
        return []
    with RESULTS.open(encoding="utf-8", newline="") as file:
        return [Finding(**row) for row in csv.DictReader(file)]


def write_findings(findings: Sequence[Finding]) -> None:
    """Store findings, sorted by architecture; variants stay in their order."""
    ordered = sorted(findings, key=lambda finding: finding.architecture)
    write_csv(RESULTS, [field.name for field in fields(Finding)], map(astuple, ordered))


def main() -> int:
    """Compare the architectures that have no finding yet, or the named ones; the exit status says whether any is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("architectures", nargs="*", help="model types, as qwen2_moe; by default all that are not in the results")
    parser.add_argument("--fresh", action="store_true", help="forget earlier results")
    options = parser.parse_args()
    findings = [] if options.fresh else read_findings()
    done = {finding.architecture for finding in findings}
    chosen = options.architectures or [name for name in architectures() if name not in done]
    with tempfile.TemporaryDirectory() as folder:
        # No verdict that was stored before.
        os.environ["XDG_DATA_HOME"] = folder
        for name in chosen:
            fresh = findings_in_child(name)
            findings = [finding for finding in findings if finding.architecture != name] + fresh
            write_findings(findings)
            print(name, *sorted({f"{finding.verdict} {finding.variant}" for finding in fresh}), sep="\n  ", flush=True)
    return 1 if any(finding.verdict == "wrong" for finding in findings) else 0


if __name__ == "__main__":
    sys.exit(main())
