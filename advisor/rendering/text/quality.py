"""The quality loss of techniques as text: one row each, then the attention heads with the largest error."""

from collections.abc import Sequence

from advisor.profiles.metrics import Value
from advisor.profiles.quality import QualityReport, TechniqueQuality
from advisor.quantities.formatting import ABSENT, number
from advisor.rendering.text.style import Look, wrap
from advisor.rendering.text.table import Column, Group, table


def quality_text(report: QualityReport, *, heads: int = 10, width: int = 80, colour: bool = False, ascii: bool = False) -> str:
    """Whole-model measures by technique, and the `heads` attention heads with the largest error, worst first."""
    look = Look(width, colour, ascii)
    facts = (
        f"{report.tokens} tokens of {report.text} in windows of {report.stretch_tokens}; "
        f"the unmodified model has a perplexity of {number(report.perplexity)}"
    )
    lines = [look.paint(line, "title") for line in wrap(f"{report.model}: quality loss of each technique alone", look)]
    lines += [*wrap(facts, look), ""]
    lines += _summary(report.techniques, look)
    for technique in filter(report.dropped_nothing, report.techniques):
        lines += wrap(_no_loss_sentence(technique, report), look)
    lines += ["", look.paint("Heads with the largest attention error", "title"), *_worst(report.techniques, heads, look)]
    return look.finish(lines)


def _summary(techniques: Sequence[TechniqueQuality], look: Look) -> list[str]:
    key = Column("technique", tuple(technique.name for technique in techniques), left=True)
    whole = (
        Column("quality loss", tuple(_value_text(technique.metrics.quality_loss_pct, "%") for technique in techniques)),
        Column("KL", tuple(_value_text(technique.metrics.kl_divergence, "") for technique in techniques)),
        Column("same top-1", tuple(_value_text(technique.metrics.top1_agreement, "%", 100) for technique in techniques)),
    )
    errors = (
        Column("median", tuple(_percent(technique.typical) for technique in techniques)),
        Column("worst", tuple(_percent(technique.worst) for technique in techniques)),
    )
    return table(key, (Group(whole, "whole model"), Group(errors, "attention of a head")), look)


def _no_loss_sentence(technique: TechniqueQuality, report: QualityReport) -> str:
    """Why the zeros of a technique that dropped no token are no measurement of its loss."""
    return (
        f"{technique.name} dropped no token: it attends to {technique.reach_tokens:,} tokens, and the scored windows have "
        f"{report.stretch_tokens:,}. These figures say nothing about its loss; measure it with a shorter window."
    )


def _worst(techniques: Sequence[TechniqueQuality], count: int, look: Look) -> list[str]:
    """The heads in descending order of their largest error under any technique."""
    errors = [{(head.layer, head.head): head.error for head in technique.heads} for technique in techniques]
    worst = sorted(errors[0], key=lambda head: -max(by_head[head] for by_head in errors))[:count]
    key = Column("head", tuple(f"layer {layer} head {head}" for layer, head in worst), left=True)
    columns = (
        Column(technique.name, tuple(_percent(by_head[head]) for head in worst))
        for technique, by_head in zip(techniques, errors, strict=True)
    )
    return table(key, tuple(Group((column,)) for column in columns), look)


def _percent(share: float) -> str:
    return f"{number(100 * share)} %"


def _value_text(value: Value | None, unit: str, scale: float = 1.0) -> str:
    return ABSENT if value is None else f"{number(scale * value.value)} {unit}".strip()
