"""The planning session: a terminal interface over the service. `state.py` and what it stands on know no Textual; `app.py` begins the screens."""
