"""Tables of text, whose columns are wrapped into blocks where the width runs out, and nested data as an indented tree."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from advisor.rendering.text.style import Look, clip, pad, shown_width, wrap

_GAP = "  "


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its head and its cells, one per row. `tones` colours cells, `left` aligns them to the left."""

    head: str
    cells: tuple[str, ...]
    tones: tuple[str, ...] = ()
    left: bool = False

    @property
    def width(self) -> int:
        """Columns of the terminal that the widest cell takes."""
        return max(shown_width(text) for text in (self.head, *self.cells))


@dataclass(frozen=True, slots=True)
class Group:
    """Columns that belong together under one title."""

    columns: tuple[Column, ...]
    title: str = ""

    @property
    def width(self) -> int:
        """Columns of the terminal that the group takes."""
        return max(shown_width(self.title), sum(column.width for column in self.columns) + len(_GAP) * (len(self.columns) - 1))


def table(key: Column, groups: Sequence[Group], look: Look) -> list[str]:
    """Rows under `key`, with as many groups side by side as fit; further groups follow in blocks that repeat the key."""
    narrow = _shrunk(key, max(8, min(key.width, look.columns // 2)))
    width_left = look.columns - narrow.width - len(_GAP)
    lines: list[str] = []
    for block in _blocks([part for group in groups for part in _split(group, width_left)], width_left):
        lines += ([""] if lines else []) + _draw(narrow, block, look)
    return lines


def _blocks(groups: Sequence[Group], width: int) -> Iterator[list[Group]]:
    block: list[Group] = []
    used = 0
    for group in groups:
        if block and used + len(_GAP) + group.width > width:
            yield block
            block, used = [], 0
        used += group.width + (len(_GAP) if block else 0)
        block.append(group)
    if block:
        yield block


def _split(group: Group, width: int) -> Iterator[Group]:
    """The group itself or, where it is too wide, its columns one by one, cut to the width."""
    if group.width <= width:
        yield group
        return
    for column in group.columns:
        head = f"{group.title} {column.head}".strip()
        yield Group((_shrunk(Column(head, column.cells, column.tones, column.left), width),))


def _shrunk(column: Column, width: int) -> Column:
    cells = tuple(clip(cell, width) for cell in column.cells)
    return Column(clip(column.head, width), cells, column.tones, column.left)


def _draw(key: Column, groups: Sequence[Group], look: Look) -> list[str]:
    lines = []
    if any(group.title for group in groups):
        titles = (pad(group.title, group.width) for group in groups)
        lines.append(_GAP.join((" " * key.width, *(look.paint(title, "title") for title in titles))))
    lines.append(look.paint(_GAP.join((_head(key), *(_row_head(group) for group in groups))), "dim"))
    for row in range(len(key.cells)):
        lines.append(_GAP.join((_cell(key, row, look), *(_row(group, row, look) for group in groups))))
    return lines


def _head(column: Column) -> str:
    return pad(column.head, column.width, right=not column.left)


def _cell(column: Column, row: int, look: Look) -> str:
    text = pad(column.cells[row], column.width, right=not column.left)
    tone = column.tones[row] if column.tones else ""
    return look.paint(text, tone) if tone else text


def _row_head(group: Group) -> str:
    return pad(_GAP.join(_head(column) for column in group.columns), group.width)


def _row(group: Group, row: int, look: Look) -> str:
    return pad(_GAP.join(_cell(column, row, look) for column in group.columns), group.width)


def tree_text(data: Mapping[str, Any], *, width: int = 80, colour: bool = False, ascii: bool = False) -> str:
    """One line per value, nested under its name; `none` where there is nothing."""
    look = Look(width, colour, ascii)
    return look.finish(_tree_lines(data, look, 0))


def _tree_lines(data: Mapping[str, Any], look: Look, depth: int) -> Iterator[str]:
    name_width = max((len(name) for name in data), default=0) + 2
    for name, value in data.items():
        indent = "  " * depth
        if isinstance(value, Mapping) and value:
            yield indent + look.paint(_label(name), "title")
            yield from _tree_lines(value, look, depth + 1)
        elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
            yield indent + look.paint(_label(name), "title")
            for item in value:
                yield from _tree_lines(item, look, depth + 1)
        else:
            yield from wrap(_value_text(value), look, first=f"{indent}{_label(name):<{name_width}}")


def _label(name: str) -> str:
    return name.replace("_", " ")


def _value_text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None or value == {} or value == "" else str(value)
