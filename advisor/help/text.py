"""Pages of `advisor explain` as text."""

from collections.abc import Mapping, Sequence

from advisor.help.topics import Page
from advisor.rendering.text.style import Look, wrap


def page_text(page: Page, *, width: int = 80, colour: bool = False, ascii: bool = False) -> str:
    """A page: its topic and kind, then its parts."""
    look = Look(width, colour, ascii)
    lines = [look.paint(f"{page.topic} ({page.kind})", "title")]
    for heading, text in page.parts:
        lines += [
            "",
            *([look.paint(heading, "dim")] if heading else []),
            *wrap(text or "No further description.", look, first="  " if heading else ""),
        ]
    return look.finish(lines)


def topics_text(topics: Mapping[str, Sequence[str]], *, width: int = 80, colour: bool = False, ascii: bool = False) -> str:
    """Every topic, by kind."""
    look = Look(width, colour, ascii)
    lines: list[str] = []
    for kind, names in topics.items():
        lines += [*([""] if lines else []), look.paint(kind, "title"), *wrap(", ".join(names), look, first="  ")]
    return look.finish(lines)
