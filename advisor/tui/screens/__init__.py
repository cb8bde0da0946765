"""The screens. To add one: write its file, and open it with `ui.open_screen` from the screen or controller whose key leads to it."""
