"""The dark and the light theme.

Every tone of `palette.styled` has a contrast of 4.5 to 1 or more on their grounds. Colours after Okabe and Ito.
"""

from typing import Any

from textual.app import App
from textual.theme import Theme

THEMES = (
    Theme(
        name="advisor-dark",
        primary="#56B4E9",
        secondary="#0072B2",
        warning="#E69F00",
        error="#E69F00",
        success="#56B4E9",
        accent="#E69F00",
        foreground="#E0E0E0",
        background="#121212",
        surface="#1E1E1E",
        panel="#242F38",
        variables={
            "text-muted": "#A8A8A8",
            "text-disabled": "#A8A8A8",
            "text-warning": "#F0B73A",
            "block-cursor-foreground": "#FFFFFF",
            "block-cursor-background": "#00517F",
            "block-cursor-blurred-background": "#0C2F45",
            "secondary-muted": "#242F38",
            "footer-key-foreground": "#E69F00",
            "scrollbar": "#6B8296",
            "scrollbar-background": "#1E1E1E",
        },
    ),
    Theme(
        name="advisor-light",
        dark=False,
        primary="#005A8C",
        secondary="#0072B2",
        warning="#7A4F00",
        error="#7A4F00",
        success="#005A8C",
        accent="#7A4F00",
        foreground="#1A1A1A",
        background="#FAFAF7",
        surface="#F2F2EE",
        panel="#E2E6EA",
        variables={
            "text-muted": "#4F4F4F",
            "text-disabled": "#5A5A5A",
            "text-warning": "#7A4F00",
            "block-cursor-foreground": "#FFFFFF",
            "block-cursor-background": "#005A8C",
            "block-cursor-blurred-background": "#D3E5F1",
            "secondary-muted": "#E2E6EA",
            "footer-key-foreground": "#7A4F00",
            "scrollbar": "#5C7385",
            "scrollbar-background": "#E2E2DE",
        },
    ),
)


def use_theme(app: App[Any], name: str) -> None:
    """Draw the app in the `dark` or in the `light` theme."""
    for theme in THEMES:
        app.register_theme(theme)
    app.theme = f"advisor-{name}"
