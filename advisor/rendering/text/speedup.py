"""How the full stack compares with the baseline, as text: the headline of a run, and what it was measured under."""

from advisor.backends.detection.contention import BUSY_SHARE
from advisor.feedback.compare import Comparison
from advisor.feedback.speedup import SpeedupVerdict, headline
from advisor.quantities.formatting import number, percent
from advisor.quantities.metrics import METRICS
from advisor.rendering.text.style import Look, wrap

TONES = {SpeedupVerdict.FASTER: "good", SpeedupVerdict.SLOWER: "bad", SpeedupVerdict.NO_DIFFERENCE: "risk"}


def speedup_lines(comparison: Comparison, look: Look) -> list[str]:
    """The headline, the other ratios, and the conditions of the measurement; empty without repeats that alternated."""
    lines: list[str] = []
    for position, speedup in enumerate(comparison.speedups):
        if position == 0:
            sentence = headline(speedup)
            lines += [look.paint(line, TONES[speedup.verdict]) for line in wrap(f"{sentence[0].upper()}{sentence[1:]}.", look)]
    others = [
        f"{METRICS[other.metric].label} {number(other.ratio)} times the baseline's [{number(other.low)}, {number(other.high)}]"
        for other in comparison.speedups[1:]
    ]
    lines += wrap(f"{'; '.join(others)}.", look) if others else []
    return [*lines, *(look.paint(line, "dim") for sentence in conditions(comparison) for line in wrap(sentence, look))]


def conditions(comparison: Comparison) -> list[str]:
    """What the comparison rests on, a sentence each: predictions scaled by the baseline, other processes on the machine."""
    sentences = []
    if any(rung.conditioned for rung in comparison.rungs):
        sentences.append("Predicted times after the baseline are scaled by its measured over its predicted times.")
    if comparison.busy_share is not None and comparison.busy_share > BUSY_SHARE:
        sentences.append(
            f"Other processes used {percent(comparison.busy_share)} of the processors when the run began: the ranges are widened by that."
        )
    return sentences
