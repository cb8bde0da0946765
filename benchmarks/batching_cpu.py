"""Serve the same 16 mixed requests with this runtime and with transformers' own continuous batching, in turn, on the CPU.

Prompts of 16 to 128 tokens, outputs of 8 to 64, all there at the start, random bfloat16 Llamas of 144 M and 5 M parameters.
Prints output tokens per second of every repeat as JSON, and whether both gave the same number of tokens.

    python benchmarks/batching_cpu.py [--model 144m|5m] [--repeats 3]
"""

import argparse
import json
import random
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import ContinuousBatchingConfig, GenerationConfig, LlamaConfig, LlamaForCausalLM

from advisor.backends.runtime.engine import Job, serve
from advisor.backends.session import Session

SIZES: dict[str, dict[str, Any]] = {
    "144m": {
        "vocab_size": 32000, "hidden_size": 1024, "num_hidden_layers": 12, "num_attention_heads": 16, "num_key_value_heads": 8,
        "intermediate_size": 2816,
    },
    "5m": {
        "vocab_size": 2048, "hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 8, "num_key_value_heads": 4,
        "intermediate_size": 768, "tie_word_embeddings": True,
    },
}  # fmt: skip
OURS: dict[str, dict[str, Any]] = {
    "advisor contiguous": {"token_budget": 256},
    "advisor paged": {"token_budget": 256, "kv_layout": "paged", "kv_block_tokens": 16},
    "advisor paged sdpa": {"token_budget": 256, "kv_layout": "paged", "kv_block_tokens": 16, "attention": "sdpa"},
}
THEIRS = {
    "transformers 256": {"num_blocks": 64, "page_size": 32, "max_batch_tokens": 256},
    "transformers 512": {"num_blocks": 128, "page_size": 32, "max_batch_tokens": 512},
}


def main() -> None:
    """Run all variants `repeats` times in turn and print the rates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=SIZES, default="144m")
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(max_position_embeddings=2048, **SIZES[chosen.model])).to(torch.bfloat16).eval()
    jobs = mixed_jobs(model.config.vocab_size)
    rates: dict[str, list[float]] = {}
    for repeat in range(chosen.repeats + 1):
        for name, run in variants(model, jobs).items():
            rate = run()
            if repeat:  # the first round warms up
                rates.setdefault(name, []).append(round(rate, 1))
    best_ours, best_theirs = (max(statistics.median(rates[name]) for name in names) for names in (OURS, THEIRS))
    result = {
        "model": chosen.model,
        "threads": torch.get_num_threads(),
        "output_tokens": sum(job.output_tokens for job in jobs),
        "tokens_per_s": rates,
        "ratio_of_best_medians": round(best_ours / best_theirs, 2),
    }
    print(json.dumps(result, indent=1))


def mixed_jobs(vocabulary: int) -> list[Job]:
    """16 requests, the same in every run."""
    draw = random.Random(0)
    return [Job(tuple(draw.randrange(vocabulary) for _ in range(draw.randint(16, 128))), draw.randint(8, 64)) for _ in range(16)]


def variants(model: Any, jobs: list[Job]) -> dict[str, Any]:
    """One callable per way of serving; each returns output tokens per second."""
    session = Session(
        folder=Path(), model=model, tokenizer=None, device=torch.device("cpu"), max_tokens=192, max_sequences=16, batching="continuous"
    )
    ours = {name: lambda settings=settings: run_ours(replace(session, **settings), jobs) for name, settings in OURS.items()}
    theirs = {name: lambda settings=settings: run_theirs(model, jobs, settings) for name, settings in THEIRS.items()}
    return ours | theirs


def run_ours(session: Session, jobs: list[Job]) -> float:
    """Output tokens per second of this runtime."""
    outcome = serve(session, jobs, concurrency=None)
    return outcome.decode_tokens / outcome.wall_s


def run_theirs(model: Any, jobs: list[Job], settings: dict[str, int]) -> float:
    """Output tokens per second of transformers' continuous batching, from the first submission to the last result."""
    model.set_attn_implementation("sdpa")
    generation = GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0, max_new_tokens=64)
    batching = ContinuousBatchingConfig(allow_block_sharing=False, **settings)
    manager = model.init_continuous_batching(generation_config=generation, continuous_batching_config=batching)
    manager.start()
    start, tokens, finished = time.perf_counter(), 0, 0
    for job in jobs:
        manager.add_request(list(job.prompt), max_new_tokens=job.output_tokens)
    while finished < len(jobs):
        result = manager.get_result(timeout=1)
        if result is not None and result.is_finished():
            finished += 1
            tokens += len(result.generated_tokens)
    wall = time.perf_counter() - start
    manager.stop(block=True)
    if tokens != sum(job.output_tokens for job in jobs):
        raise RuntimeError(f"transformers generated {tokens} tokens, not {sum(job.output_tokens for job in jobs)}")
    return tokens / wall


if __name__ == "__main__":
    main()
