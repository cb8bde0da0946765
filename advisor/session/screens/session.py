"""What every screen of the session knows: its app, by type."""

from typing import TYPE_CHECKING, cast

from textual.widget import Widget

if TYPE_CHECKING:
    from advisor.session.app import SessionApp


def session_of(widget: Widget) -> "SessionApp":
    """The app that a widget belongs to."""
    return cast("SessionApp", widget.app)
