"""The decision of a plan: from a candidate's deployment to the section `apply`, and back."""

import dataclasses
import os
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from advisor.backends.deployment import (
    Attention,
    Batching,
    BatchPolicy,
    DecodeMethod,
    Decoding,
    Deployment,
    KvCache,
    Parallel,
    Pattern,
    Weights,
)
from advisor.backends.technique import Technique
from advisor.backends.techniques import by_name
from advisor.planfile import decision
from advisor.planfile.decision import PlanPart, Section, TechniqueChoice
from advisor.planfile.file import PlanFile, request_of
from advisor.planning.advice import Candidate
from advisor.profiles.architectures.spec import ModelSpec
from advisor.profiles.errors import AdvisorError, ExitCode
from advisor.profiles.evidence import acceptance_of, accepted_share
from advisor.profiles.files import expanded
from advisor.profiles.model_store import find_model, is_shipped
from advisor.quantities.formatting import three_digits

Member = TypeVar("Member", bound=StrEnum)
Record = TypeVar("Record")


def apply_of(candidate: Candidate) -> decision.Apply:
    """Every choice of a candidate's deployment, and its techniques with their options."""
    deployment = candidate.deployment
    return decision.Apply(
        engine=decision.Engine(name=deployment.engine),
        parallel=decision.ParallelChoice(**dataclasses.asdict(deployment.parallel)),
        weights=decision.WeightsChoice(
            dtype=deployment.weights.format,
            group_size=deployment.weights.group_size,
            keep=tuple(sorted(deployment.weights.unquantised_kinds)),
            activations=deployment.weights.dtype,
        ),
        attention=_section(decision.AttentionChoice, deployment.attention, pattern=_pattern_choice(deployment.attention.pattern)),
        kv_cache=_section(decision.CacheChoice, deployment.kv),
        speculative=_speculation(deployment.decoding),
        batching=_section(
            decision.BatchingChoice,
            deployment.batching,
            chunked_prefill=deployment.batching.chunked if deployment.batching.policy == BatchPolicy.CONTINUOUS else None,
        ),
        techniques=tuple(_technique(technique) for technique in candidate.techniques),
    )


def deployment_of(plan: PlanFile, model: ModelSpec) -> Deployment:
    """The deployment that a plan describes. Raises `AdvisorError` when its draft model is not found."""
    chosen = plan.apply
    return Deployment(
        model=model,
        weights=Weights(
            format=chosen.weights.dtype,
            group_size=chosen.weights.group_size,
            unquantised_kinds=frozenset(chosen.weights.keep),
            dtype=chosen.weights.activations,
        ),
        attention=_record(Attention, chosen.attention, "attention", pattern=_pattern(chosen.attention.pattern)),
        kv=_record(KvCache, chosen.kv_cache, "kv_cache"),
        decoding=_decoding(chosen.speculative),
        batching=_record(Batching, chosen.batching, "batching", chunked=is_chunked(plan)),
        parallel=Parallel(
            tensor=chosen.parallel.tensor, pipeline=chosen.parallel.pipeline, data=chosen.parallel.data, expert=chosen.parallel.expert
        ),
        engine=chosen.engine.name,
    )


def _member(choices: type[Member], value: str, key: str) -> Member:
    """The member that a plan names. Raises `AdvisorError` `plan-field` for an unknown one."""
    try:
        return choices(value)
    except ValueError as error:
        raise AdvisorError(
            "plan-field",
            f"the plan says `{value}` under `apply.{key}`",
            exit_code=ExitCode.USAGE,
            help=(f"choose from {', '.join(choices)}",),
        ) from error


def techniques_of(plan: PlanFile) -> tuple[Technique, ...]:
    """The techniques of a plan with their options, in order. Raises `AdvisorError` for an unknown technique or option."""
    return tuple(
        by_name(chosen.name, {name: _given(value) for name, value in chosen.options.items()}) for chosen in technique_choices(plan)
    )


def _given(value: Any) -> Any:
    """The inverse of `shorter_home`."""
    return str(expanded(value)) if isinstance(value, str) and value.startswith("~/") else value


def shorter_home(path: str) -> str:
    """A path with the home folder replaced by `~`."""
    home = str(Path.home())
    return f"~{path[len(home) :]}" if path == home or path.startswith(home + os.sep) else path


def stored_path(folder: str | None) -> str | None:
    """A model's folder as a plan file stores it; `None` for weights that ship with advisor."""
    return None if folder is None or is_shipped(folder) else shorter_home(folder)


def _pattern_choice(pattern: Pattern | None) -> decision.PatternChoice | None:
    return None if pattern is None else decision.PatternChoice(**dataclasses.asdict(pattern))


def _pattern(chosen: decision.PatternChoice | None) -> Pattern | None:
    return None if chosen is None else Pattern(**{field.name: getattr(chosen, field.name) for field in dataclasses.fields(Pattern)})


def _section(section: type[Section], record: Any, **given: Any) -> Section:
    """The section that mirrors a deployment's record; `given` values replace those of the record.

    Optional keys are left out where the record has its default.
    """
    defaults = _defaults(type(record))
    values = {key: getattr(record, name) for name, key in section.record_keys.items()}
    is_absent = {
        key: section.model_fields[key].default is None and values[key] == defaults[name] for name, key in section.record_keys.items()
    }
    return section(**{key: None if is_absent[key] else value for key, value in values.items()} | given)


def _record(record: type[Record], section: PlanPart, path: str, **given: Any) -> Record:
    """The deployment's record that a section at `path` describes; absent keys give the record's defaults.

    Raises `AdvisorError` `plan-field` for a word that the record does not know.
    """
    defaults = _defaults(record)
    values: dict[str, Any] = {}
    for name, key in section.record_keys.items():
        value = getattr(section, key)
        if value is not None and name not in given:
            values[name] = _member(type(defaults[name]), value, f"{path}.{key}") if isinstance(defaults[name], StrEnum) else value
    return record(**values | given)


def _defaults(record: type) -> dict[str, Any]:
    return {field.name: field.default for field in dataclasses.fields(record)}


def _speculation(decoding: Decoding) -> decision.Speculation | None:
    if decoding.method == DecodeMethod.PLAIN:
        return None
    chances = (decoding.acceptance, *decoding.acceptance_spread)
    rate, low, high = (three_digits(accepted_share(chance, decoding.draft_tokens)) for chance in chances)
    return decision.Speculation(
        method=decoding.method,
        draft_tokens=decoding.draft_tokens,
        draft_folder=stored_path(decoding.draft_folder),
        acceptance_rate=decision.Acceptance(value=rate, range=(low, high)),
    )


def _decoding(chosen: decision.Speculation | None) -> Decoding:
    if chosen is None:
        return Decoding()
    folder = str(expanded(chosen.draft_folder)) if chosen.draft_folder else None
    rate = chosen.acceptance_rate or decision.Acceptance(value=0.0, range=(0.0, 0.0))
    middle, low, high = (acceptance_of(1 + share * chosen.draft_tokens, chosen.draft_tokens) for share in (rate.value, *rate.range))
    return Decoding(
        method=_member(DecodeMethod, chosen.method, "speculative.method"),
        draft_tokens=chosen.draft_tokens,
        acceptance=middle,
        acceptance_spread=(low, high),
        draft_model=find_model(folder) if folder else None,
        draft_folder=folder,
    )


def _technique(technique: Technique) -> decision.TechniqueChoice:
    options = {field.name: _option(getattr(technique, field.name)) for field in dataclasses.fields(technique)}
    return decision.TechniqueChoice(name=technique.name, options=options)


def _option(value: Any) -> Any:
    if isinstance(value, Path):
        return shorter_home(str(value))
    return shorter_home(value) if isinstance(value, str) else value


EARLIER, OPTION = "batching-continuous", "token_budget"


def is_chunked(plan: PlanFile) -> bool:
    """Whether the plan has chunked prefill. Files of older versions do not state it: they had it where a prompt was longer than a step.

    Raises `AdvisorError` for limits that contradict each other.
    """
    batching = plan.apply.batching
    if batching.chunked_prefill is not None:
        return batching.chunked_prefill
    if not any(_is_earlier(chosen) for chosen in plan.apply.techniques) or not batching.max_batched_tokens:
        return True
    drafts = plan.apply.speculative.draft_tokens if plan.apply.speculative else 0
    positions = batching.max_num_seqs * (drafts + 1)
    return request_of(plan).workload.longest_prompt_tokens + positions > batching.max_batched_tokens


def technique_choices(plan: PlanFile) -> tuple[TechniqueChoice, ...]:
    """The techniques of a plan by their current names."""
    return tuple(_renamed(plan, chosen) if _is_earlier(chosen) else chosen for chosen in plan.apply.techniques)


def _is_earlier(chosen: TechniqueChoice) -> bool:
    return chosen.name == EARLIER and OPTION in chosen.options


def _renamed(plan: PlanFile, chosen: TechniqueChoice) -> TechniqueChoice:
    if is_chunked(plan):
        return TechniqueChoice(name="batching-chunked-prefill", options=chosen.options)
    return TechniqueChoice(name=EARLIER, options={"step_tokens": chosen.options[OPTION]})
