"""Predicted against measured: stacks of techniques served for real, and their estimates with this machine's profile."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import islice
from typing import Any

import torch

from advisor.backends.deployment import Batching, baseline
from advisor.backends.measure.latency import serve_workload
from advisor.backends.model.loaded_model import LoadedModel
from advisor.backends.technique import Slot, Technique
from advisor.backends.techniques import TECHNIQUES, by_name
from advisor.planning.target import planner_for, resolve_target
from advisor.profiles.engines import load_engine
from advisor.profiles.files import write_whole
from advisor.profiles.metrics import Metrics
from advisor.profiles.request import Request, Workload
from advisor.profiles.run import Recipe
from advisor.profiles.store import load_profile, profile_yaml
from advisor.running.profile import measure_this_machine
from benchmarks.cases.models import DEMO_MODEL, LLAMA_8B, LLAMA_207M, TINY, Shape, make_model
from benchmarks.harness.case import Bench, Case, Measured
from benchmarks.harness.record import Timing

STACKS = "stacks"
PROFILE = "profile"
TEXT_TOKENS = 20_000
MOST_REPEATS = 12
METRICS = {"tpot_ms": "tpot_ms_mean", "throughput_tok_s": "throughput_tok_s"}


@dataclass(frozen=True, slots=True)
class Stack:
    """Techniques on a model under a closed load."""

    shape: Shape
    techniques: tuple[str, ...]
    prompt_tokens: int
    output_tokens: int
    concurrency: int

    @property
    def name(self) -> str:
        """As in the results."""
        load = f"{self.concurrency}x{self.prompt_tokens}+{self.output_tokens}"
        return f"{self.shape.name} {' + '.join(self.techniques) or 'baseline'}, {load}"

    @property
    def request(self) -> Request:
        """The planner's question for this stack."""
        return Request(workload=Workload(prompt_tokens=self.prompt_tokens, output_tokens=self.output_tokens, concurrency=self.concurrency))


SETS: tuple[tuple[str, ...], ...] = (
    (),
    ("attention-sdpa",),
    ("attention-sdpa", "kv-paged"),
    ("attention-flash", "kv-paged"),
    ("weights-int8", "attention-sdpa", "kv-paged"),
    ("weights-int4", "attention-sdpa", "kv-paged"),
    ("attention-sdpa", "kv-paged", "kv-int8"),
    ("attention-sdpa", "kv-paged", "kv-fp8"),
    ("attention-sdpa", "kv-paged", "kv-int4"),
    ("attention-sdpa", "kv-paged", "batching-continuous"),
    ("weights-int4", "attention-sdpa", "kv-paged", "kv-int8", "batching-continuous"),
    ("weights-int8", "kv-int8"),
)
"""Combinations that differ in what a step reads, computes and how it is scheduled."""


def cpu_stacks() -> list[Stack]:
    """The trained model and a larger random one under loads that a processor serves in seconds."""
    loads = ((DEMO_MODEL, 256, 48, 6), (LLAMA_207M, 128, 24, 4), (DEMO_MODEL, 64, 64, 1))
    return _stacks(loads)


def gpu_stacks() -> list[Stack]:
    """Llama-8B shape; neighbours have the same weights, so that the model is made anew as seldom as can be."""
    stacks = _stacks(((LLAMA_8B, 512, 64, 32), (LLAMA_8B, 4096, 64, 4), (LLAMA_8B, 128, 128, 1)))
    return sorted(stacks, key=lambda stack: stack.techniques[:1] if stack.techniques[:1] and "weights" in stack.techniques[0] else ())


def tiny_stacks() -> list[Stack]:
    """For trials of the flow."""
    return _stacks(((TINY, 16, 4, 2),), SETS[:3])


def _stacks(loads: Sequence[tuple[Shape, int, int, int]], sets: Sequence[tuple[str, ...]] = SETS) -> list[Stack]:
    """Every set under every load that none of its techniques refuses; sets with a technique that this version lacks are left out."""
    names_known = {technique.name for technique in TECHNIQUES}
    specs = {shape.name: shape.spec() for shape, *_ in loads}
    stacks = [Stack(shape, names, *load) for names in sets if names_known >= set(names) for shape, *load in loads]
    return [stack for stack in stacks if refusal(stack, specs[stack.shape.name]) is None]


def chain(stack: Stack) -> tuple[Technique, ...]:
    """The techniques in order of application."""
    return tuple(sorted((by_name(name) for name in stack.techniques), key=lambda technique: Slot(technique.slot)))


def refusal(stack: Stack, spec: Any) -> str | None:
    """The first technique's objection."""
    deployment = baseline(spec, max_sequences=stack.concurrency)
    for technique in chain(stack):
        why = technique.refuse(stack.request, deployment)
        if why is not None:
            return f"{technique.name}: {why}"
        deployment = technique.sketch(deployment, stack.request)
    return None


def stack_cases(stacks: Sequence[Stack], *, seconds: float, profile_s: float = 60, serve_s: float = 3) -> list[Case]:
    """The profile, then a case for each stack, each served for `serve_s` at least."""
    profile = Case(part=STACKS, name=PROFILE, seconds=profile_s + 15 * (profile_s > 0), run=partial(take_profile, profile_s))
    return [
        profile,
        *(
            Case(part=STACKS, name=stack.name, seconds=seconds, after=((STACKS, PROFILE),), run=partial(time_stack, stack, serve_s))
            for stack in stacks
        ),
    ]


def take_profile(budget_s: float, bench: Bench) -> Measured:
    """This machine's profile, as `advisor profile run` measures it, in the folder of the results."""
    _model.cache_clear()
    profile = measure_this_machine("benchmark", None, budget_s=max(budget_s, 0.1))
    write_whole(profile_path(bench), profile_yaml(profile))
    counted = {"gemm_points": len(profile.gemm), "attention_points": len(profile.attention)}
    return Measured(settings={"shared": profile.shared, **counted}, values={"residual_pct": profile.residual_pct})


def profile_path(bench: Bench) -> Any:
    """The profile's file."""
    return bench.folder / f"{PROFILE}.yaml"


def time_stack(stack: Stack, serve_s: float, bench: Bench) -> Measured:
    """Serve the load as `advisor apply` does, and predict exactly those requests."""
    recipe = Recipe(
        requests=max(2 * stack.concurrency, 4), warmup_requests=min(stack.concurrency, 4), repeats=1, seed=7, quality_text="",
        quality_tokens=0,
    )  # fmt: skip
    predicted = predict(stack, recipe, bench)
    session = applied(stack, bench.device)
    once_s = stack.output_tokens * recipe.requests / predicted_rate(predicted)
    recipe = recipe.model_copy(update={"repeats": min(max(2, round(serve_s / once_s)), MOST_REPEATS)})
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, session.model.config.vocab_size, (TEXT_TOKENS,), generator=draw).tolist()
    served = serve_workload(session, stack.request.workload, recipe, tokens, lambda step, done, total: None)
    values = {
        f"{side}_{name}": value
        for side, metrics in (("predicted", predicted), ("measured", served.metrics))
        for name, value in _reported(metrics)
    }
    errors = {f"{name}_error": values[f"predicted_{name}"] / values[f"measured_{name}"] - 1 for name in METRICS}
    profiled_s = load_profile(str(profile_path(bench))).pace_s
    if served.pace_s and profiled_s:
        errors["pace"] = profiled_s / served.pace_s
    tpots = tuple(float(f"{ms / 1e3:.4g}") for sample in served.samples if (ms := sample.tpot_ms) is not None)
    return Measured(
        settings={
            "model": stack.shape.name, "techniques": " + ".join(stack.techniques), "prompt_tokens": stack.prompt_tokens,
            "output_tokens": stack.output_tokens, "concurrency": stack.concurrency, "requests": recipe.requests,
            "repeats": recipe.repeats,
        },
        timings=(Timing(name="advisor", how="loop", calls=stack.output_tokens - 1, seconds=tpots),),
        values=values | errors,
    )  # fmt: skip


def predicted_rate(metrics: Metrics) -> float:
    """Output tokens per second."""
    assert metrics.throughput_tok_s is not None, "a closed load always has one"
    return metrics.throughput_tok_s.value


def _reported(metrics: Metrics) -> list[tuple[str, float]]:
    values = [(name, getattr(metrics, field)) for name, field in METRICS.items()]
    return [(name, value.value) for name, value in values if value is not None]


def predict(stack: Stack, recipe: Recipe, bench: Bench) -> Metrics:
    """By the estimator, on the profile that was taken in this environment."""
    spec, engine = stack.shape.spec(), load_engine("advisor")
    planner = planner_for(spec, resolve_target(None, str(profile_path(bench)), engine), engine)
    deployment = baseline(spec, max_sequences=stack.concurrency)
    for technique in chain(stack):
        deployment = technique.sketch(deployment, stack.request)
    lengths = [(stack.prompt_tokens, stack.output_tokens)] * recipe.requests
    return planner.estimator.metrics(deployment, stack.request.workload, lengths=lengths)


def applied(stack: Stack, device: torch.device) -> LoadedModel:
    """The model with every technique applied. What swaps weights swaps them once, for all stacks that share it."""
    on_weights = tuple(islice((technique for technique in chain(stack) if technique.slot is Slot.WEIGHTS), 1))
    session = _model(stack.shape, on_weights, device)
    session = replace(session, max_tokens=stack.request.workload.longest_tokens, batching=Batching(max_sequences=stack.concurrency))
    for technique in chain(stack):
        if technique.slot is not Slot.WEIGHTS:
            session = technique.apply(session)
    return session


@lru_cache(maxsize=1)
def _model(shape: Shape, on_weights: tuple[Technique, ...], device: torch.device) -> LoadedModel:
    from benchmarks.cases.models import session_of

    session = session_of(make_model(shape, device), max_tokens=1)
    for technique in on_weights:
        session = technique.apply(session)
    return session
