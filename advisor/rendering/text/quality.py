"""What techniques cost in quality as text: one row each, then the heads that lose most."""

from collections.abc import Sequence

from advisor.profiles.metrics import Value
from advisor.profiles.quality import HeadError, QualityReport, TechniqueQuality
from advisor.quantities.formatting import ABSENT, number
from advisor.rendering.text.style import Look, wrap
from advisor.rendering.text.table import Column, Group, table


def quality_text(report: QualityReport, *, heads: int = 10, width: int = 80, colour: bool = False, ascii: bool = False) -> str:
    """Whole-model measures by technique, and the `heads` whose attention is furthest from exact, worst first."""
    look = Look(width, colour, ascii)
    facts = (
        f"{report.tokens} tokens of {report.text} in stretches of {report.stretch_tokens}; "
        f"the unmodified model has a perplexity of {number(report.perplexity)}"
    )
    lines = [look.paint(line, "title") for line in wrap(f"{report.model}: what techniques cost, each by itself", look)]
    lines += [*wrap(facts, look), ""]
    lines += _summary(report.techniques, look)
    lines += [line for each in report.techniques if report.dropped_nothing(each) for line in wrap(_idle(each, report), look)]
    lines += ["", look.paint("Heads furthest from exact attention", "title"), *_worst(report.techniques, heads, look)]
    return look.finish(lines)


def _summary(techniques: Sequence[TechniqueQuality], look: Look) -> list[str]:
    key = Column("technique", tuple(each.name for each in techniques), left=True)
    whole = (
        Column("quality loss", tuple(_told(each.metrics.quality_loss_pct, "%") for each in techniques)),
        Column("KL", tuple(_told(each.metrics.kl_divergence, "") for each in techniques)),
        Column("same top-1", tuple(_told(each.metrics.top1_agreement, "%", 100) for each in techniques)),
    )
    errors = (
        Column("median", tuple(_percent(each.typical) for each in techniques)),
        Column("worst", tuple(_percent(each.worst) for each in techniques)),
    )
    return table(key, (Group(whole, "whole model"), Group(errors, "attention of a head")), look)


def _idle(technique: TechniqueQuality, report: QualityReport) -> str:
    """Why the zeros of a technique say nothing."""
    return (
        f"{technique.name}: nothing was dropped. It reaches {technique.reach_tokens:,} tokens and stretches have "
        f"{report.stretch_tokens:,}, so its figures do not tell what it costs; measure a shorter window."
    )


def _worst(techniques: Sequence[TechniqueQuality], count: int, look: Look) -> list[str]:
    """The heads in the order of their largest error under any technique."""
    by_place = [dict(zip(map(_place, each.heads), each.heads, strict=True)) for each in techniques]
    places = sorted(by_place[0], key=lambda place: -max(known[place].error for known in by_place))[:count]
    key = Column("head", tuple(f"layer {layer} head {head}" for layer, head in places), left=True)
    columns = (
        Column(each.name, tuple(_percent(known[place].error) for place in places)) for each, known in zip(techniques, by_place, strict=True)
    )
    return table(key, tuple(Group((column,)) for column in columns), look)


def _place(head: HeadError) -> tuple[int, int]:
    return head.layer, head.head


def _percent(share: float) -> str:
    return f"{number(100 * share)} %"


def _told(value: Value | None, unit: str, scale: float = 1.0) -> str:
    return ABSENT if value is None else f"{number(scale * value.value)} {unit}".strip()
