"""HTML and SVG elements: every text and attribute is escaped unless it is `Markup`."""

from html import escape


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


def tag(name: str, *children: str | None, **attributes: str | float | None) -> Markup:
    """An element. Plain strings among its children are escaped; attributes that are `None` are left out.

    A trailing `_` of an attribute's name is dropped and other `_` become `-`, so that `class_` and `stroke_width` can be written.

    >>> tag("p", "a < b", class_="note")
    '<p class="note">a &lt; b</p>'
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_attribute(value))}"' for key, value in attributes.items() if value is not None
    )
    return Markup(f"<{name}{written}>{joined(*children)}</{name}>")


def joined(*children: str | None) -> Markup:
    """Children one after the other, plain strings escaped."""
    return Markup("".join(child if isinstance(child, Markup) else escape(child) for child in children if child is not None))


def _attribute(value: str | float) -> str:
    """Coordinates with at most two digits behind the point."""
    if isinstance(value, str):
        return value
    return f"{value:.2f}".rstrip("0").rstrip(".")
