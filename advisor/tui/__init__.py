"""The planning session: a terminal interface over the service. `state.py` and below know no Textual; `app.py` begins the screens."""
