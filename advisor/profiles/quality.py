"""Quality loss of techniques on one model and text, as a file: metrics of the whole model and the error of every attention head."""

from statistics import median

from pydantic import Field

from advisor.profiles.frozen import Frozen
from advisor.profiles.metrics import Metrics


class HeadError(Frozen):
    """Error of one head's attention output while all other layers and heads are exact."""

    layer: int = Field(ge=0)
    head: int = Field(ge=0)
    error: float = Field(ge=0)
    """Relative error: norm of the difference from the exact outputs over the norm of these, over all tokens."""


class TechniqueQuality(Frozen):
    """Quality of one technique on its own."""

    technique: str
    options: dict[str, int | float | str | bool | None] = Field(default_factory=dict)
    reach_tokens: int | None = Field(default=None, ge=1)
    """Most tokens that a query attends to or that are cached; `None` where no token is dropped."""
    metrics: Metrics
    """Perplexity, and the comparison of predictions with those of the unmodified model."""
    heads: tuple[HeadError, ...]
    """Every head of every layer, in order."""

    @property
    def name(self) -> str:
        """The technique and its options: `kv-window window=128`."""
        return " ".join([self.technique, *(f"{name}={value}" for name, value in self.options.items())])

    @property
    def worst(self) -> float:
        """The largest error of a head."""
        return max(head.error for head in self.heads)

    @property
    def typical(self) -> float:
        """The error of the median head."""
        return median(head.error for head in self.heads)


class QualityReport(Frozen):
    """Techniques compared with the unmodified model."""

    model: str
    text: str
    tokens: int = Field(ge=1)
    """Tokens of the text that were scored."""
    stretch_tokens: int = Field(ge=1)
    """Tokens of each segment that is scored: no token attends beyond its own segment."""
    perplexity: float
    """Perplexity of the unmodified model."""
    techniques: tuple[TechniqueQuality, ...]

    def dropped_nothing(self, technique: TechniqueQuality) -> bool:
        """Whether a technique that drops distant tokens dropped none, as no segment is longer than its reach."""
        return technique.reach_tokens is not None and technique.reach_tokens >= self.stretch_tokens
