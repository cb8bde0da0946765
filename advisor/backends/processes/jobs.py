"""What a child process is asked to do: read from its standard input, validated once."""

import json
from typing import Annotated, Literal

from pydantic import Field, JsonValue, TypeAdapter

from advisor.profiles.frozen import Frozen
from advisor.profiles.request import Workload
from advisor.profiles.run import Recipe


class Chosen(Frozen):
    """A technique by name, with its options."""

    name: str
    options: dict[str, JsonValue] = Field(default_factory=dict)

    @property
    def options_told(self) -> str:
        """The options as a plan file has them, in a line: `group_size=128 head=false`; empty where there are none."""
        told = ((name, json.dumps(value).strip('"')) for name, value in self.options.items() if value is not None)
        return " ".join(f"{name}={value}" for name, value in told)


class RungJob(Frozen):
    """Load a model, apply techniques, measure speed, memory and quality."""

    kind: Literal["rung"] = "rung"
    folder: str
    draft_folder: str | None = None
    """Where the draft model is, for a technique that needs one."""
    techniques: tuple[Chosen, ...]
    workload: Workload
    max_sequences: int = Field(ge=1)
    """Slots of the unmodified model; a batching technique may set its own."""
    recipe: Recipe
    text_file: str
    """Held-out text: prompts are cut from it, quality is measured on it."""
    reference_file: str
    """The baseline's log-probabilities: written when `is_baseline`, else read."""
    is_baseline: bool
    device: str = "cpu"
    threads: int = Field(ge=1)
    memory_limit_bytes: int | None = Field(default=None, gt=0)
    """Most address space the child may take; `None` for no limit of ours."""


def rung_steps(recipe: Recipe) -> tuple[str, ...]:
    """What a rung does in turn, as it names its progress."""
    return ("load", "warm-up", *(repeat_step(repeat, recipe) for repeat in range(recipe.repeats)), "quality")


def repeat_step(repeat: int, recipe: Recipe) -> str:
    """The name of one repeat, counted from 0."""
    return f"repeat {repeat + 1} of {recipe.repeats}"


PROFILE_STEPS = ("memory bandwidth", "products, attention, whole steps")
"""What a profile measures in turn, as it names its progress."""


class ProfileJob(Frozen):
    """Measure this machine."""

    kind: Literal["profile"] = "profile"
    name: str
    threads: int = Field(ge=1)
    budget_s: float = Field(gt=0)
    """Wall time for everything, the loading of libraries included."""
    memory_limit_bytes: int | None = Field(default=None, gt=0)


class QualityJob(Frozen):
    """Measure what techniques of attention and cache cost in quality, each by itself."""

    kind: Literal["quality"] = "quality"
    model: str
    """The model's name, as shown."""
    folder: str
    techniques: tuple[Chosen, ...]
    text_file: str
    tokens: int = Field(ge=32)
    """Tokens of the text to score."""
    device: str = "cpu"
    threads: int = Field(ge=1)
    memory_limit_bytes: int | None = Field(default=None, gt=0)


Job = RungJob | ProfileJob | QualityJob

_JOB: TypeAdapter[Job] = TypeAdapter(Annotated[Job, Field(discriminator="kind")])


def parse_job(text: str | bytes) -> Job:
    """Read a job. Raises `ValueError`."""
    return _JOB.validate_json(text)
