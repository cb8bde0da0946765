"""Jobs of a child process, read from its standard input as JSON and validated once."""

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
    def options_line(self) -> str:
        """The options in one line, written as in a plan file: `group_size=128 head=false`; empty without options."""
        pairs = ((name, json.dumps(value).strip('"')) for name, value in self.options.items() if value is not None)
        return " ".join(f"{name}={value}" for name, value in pairs)


class RungJob(Frozen):
    """Load a model, apply techniques and measure speed, memory and quality."""

    kind: Literal["rung"] = "rung"
    folder: str
    draft_folder: str | None = None
    """Folder of the draft model, for techniques that need one."""
    techniques: tuple[Chosen, ...]
    workload: Workload
    max_sequences: int = Field(ge=1)
    """Most sequences in the unmodified model's batch; a batching technique may set another number."""
    recipe: Recipe
    text_file: str
    """Held-out text that prompts are cut from and quality is measured on."""
    reference_file: str
    """File of the baseline's log-probabilities: written when `is_baseline`, else read."""
    is_baseline: bool
    measures_quality: bool = True
    waits: bool = False
    """Whether each part (loading with warm-up, every repeat, quality) waits for a line on standard input after a `Ready` event."""
    dtype: str | None = None
    """Type of activations of the unmodified model: fp32, bf16 or fp16; `None` for the checkpoint's own."""
    device: str = "cpu"
    threads: int = Field(ge=1)
    memory_limit_bytes: int | None = Field(default=None, gt=0)
    """Most address space that the job may add; `None` for no limit."""


def rung_steps(recipe: Recipe) -> tuple[str, ...]:
    """The steps of a rung in order, by their names in `Progress`."""
    return ("load", "warm-up", *(repeat_step(repeat, recipe) for repeat in range(recipe.repeats)), "quality")


def repeat_step(repeat: int, recipe: Recipe) -> str:
    """The step's name of a repeat, counted from 0."""
    return f"repeat {repeat + 1} of {recipe.repeats}"


PROFILE_STEPS = ("memory bandwidth", "products, attention, whole steps")
"""The steps of a profile in order, by their names in `Progress`."""


class ProfileJob(Frozen):
    """Measure this machine's profile."""

    kind: Literal["profile"] = "profile"
    name: str
    threads: int = Field(ge=1)
    budget_s: float = Field(gt=0)
    """Wall time of the whole job, including the import of libraries."""
    memory_limit_bytes: int | None = Field(default=None, gt=0)


class QualityJob(Frozen):
    """Measure the quality loss of attention and cache techniques, each alone."""

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
    """Parse a job from JSON. Raises `ValueError` when it is none."""
    return _JOB.validate_json(text)
