"""The controller of the saved state: holds it, and writes it a moment after each change."""

import contextlib
from dataclasses import replace
from pathlib import Path

from textual.app import App
from textual.timer import Timer

from advisor.profiles.errors import AdvisorError
from advisor.tui.form.saved_state import SavedState, save_state, with_mark

SAVED_AFTER_S = 0.3


class StateStore:
    """The present state, and the file that it is saved in."""

    def __init__(self, app: App[None], state: SavedState, file: Path | None) -> None:
        self.state = state
        self._app = app
        self._file = file
        self._timer: Timer | None = None
        self._failure_shown = False
        self._restored = state.values

    @property
    def restored(self) -> tuple[str, ...]:
        """What the present question has of the last session, in the words of the form."""
        return self.state.values.in_common(self._restored)

    def update(self, state: SavedState) -> None:
        """Replace the state, and save it after `SAVED_AFTER_S`."""
        self.state = state
        if self._file is not None:
            if self._timer is not None:
                self._timer.stop()
            self._timer = self._app.set_timer(SAVED_AFTER_S, self.save)

    def mark(self, plan: str) -> None:
        """Mark a plan for comparison, or remove its mark."""
        self.update(replace(self.state, marked=with_mark(self.state.marked, plan)))

    def save(self) -> None:
        """Save the state now; the first failure is shown, later ones are not."""
        if self._file is None:
            return
        try:
            save_state(self.state, self._file)
        except AdvisorError as error:
            if not self._failure_shown:
                self._app.notify(f"the state is not saved: {error.message}", severity="warning", markup=False)
            self._failure_shown = True

    def close(self) -> None:
        """Save the state as the app ends; a failure can no longer be shown."""
        if self._file is not None:
            with contextlib.suppress(AdvisorError):
                save_state(self.state, self._file)
