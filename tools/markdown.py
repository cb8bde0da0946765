"""Tables in Markdown, for the pages that tools write."""

from collections.abc import Iterable, Sequence


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table. Bars in a cell are escaped.

    >>> print(table(("name", "|x|"), [("a", "1")]))
    | name | \\|x\\| |
    | --- | --- |
    | a | 1 |
    """
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
