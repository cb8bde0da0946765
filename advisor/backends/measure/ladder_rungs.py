"""What a ladder measures: the rungs with their predictions, the model, the requests and the recipe."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from advisor.backends.processes.events import Event
from advisor.backends.processes.jobs import Chosen
from advisor.profiles.metrics import Metrics
from advisor.profiles.request import Request
from advisor.profiles.run import Environment, Recipe

LOGS_FOLDER = "logs"
REFERENCE_FILE = "baseline-logprobs.safetensors"
BASELINE = "baseline"
FULL_STACK = "full stack"

OnEvent = Callable[[str, Event], None]
"""Called with the rung's name and an event of its child."""


@dataclass(frozen=True, slots=True)
class LadderRung:
    """A rung to measure: the techniques that it adds to the rung before, none for the baseline, and its predicted metrics."""

    techniques: tuple[Chosen, ...]
    predicted: Metrics

    @property
    def name(self) -> str:
        """The rung's name: of the technique that it adds, or `full stack` where it adds several."""
        return self.techniques[0].name if len(self.techniques) == 1 else FULL_STACK if self.techniques else BASELINE


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """What `run_ladder` measures. `steps` start with the baseline and follow the order in which techniques are applied."""

    plan_id: str
    title: str
    model: str
    """The model's name, as shown."""
    folder: Path
    draft_folder: Path | None = None
    """Folder of the draft model, for techniques that need one."""
    text_file: Path
    request: Request
    environment: Environment
    recipe: Recipe
    steps: tuple[LadderRung, ...]
    max_sequences: int
    """Most sequences in the baseline's batch."""
    dtype: str | None = None
    """Type of activations of the baseline; `None` for the checkpoint's own."""
    device: str = "cpu"
    memory_limit_bytes: int | None = None


def added_until(ladder: Ladder, index: int) -> tuple[Chosen, ...]:
    """The techniques of the rung at `index`, in order of application."""
    return tuple(technique for step in ladder.steps[: index + 1] for technique in step.techniques)


def names_until(ladder: Ladder, index: int) -> tuple[str, ...]:
    """The same by name."""
    return tuple(technique.name for technique in added_until(ladder, index))
