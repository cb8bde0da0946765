"""What techniques cost in quality on one model and text, as a file: whole-model measures, and the error of every head's attention."""

from statistics import median

from pydantic import Field

from advisor.profiles.frozen import Frozen
from advisor.profiles.metrics import Metrics


class HeadError(Frozen):
    """How far one head's attention is from exact, every other layer and head being exact."""

    layer: int = Field(ge=0)
    head: int = Field(ge=0)
    error: float = Field(ge=0)
    """Norm of the difference of its outputs over the norm of the exact ones, all tokens together."""


class TechniqueQuality(Frozen):
    """One technique by itself."""

    technique: str
    options: dict[str, int | float | str | bool] = Field(default_factory=dict)
    reach_tokens: int | None = Field(default=None, ge=1)
    """Tokens that one sees or that are kept, at the most; `None` where nothing is dropped however long a text is."""
    metrics: Metrics
    """Perplexity and what compares the predictions with those of the unmodified model."""
    heads: tuple[HeadError, ...]
    """Every head of every layer, in order."""

    @property
    def name(self) -> str:
        """The technique and its options, in words."""
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
    """Tokens of each stretch of it: no token sees beyond its own."""
    perplexity: float
    """Of the unmodified model."""
    techniques: tuple[TechniqueQuality, ...]

    def dropped_nothing(self, technique: TechniqueQuality) -> bool:
        """Whether a technique that drops what is far away had nothing to drop, as no stretch is longer than its reach."""
        return technique.reach_tokens is not None and technique.reach_tokens >= self.stretch_tokens
