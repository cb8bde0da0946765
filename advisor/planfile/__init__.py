"""The plan file: its record, how an advice becomes one, its text, reading it back, and whether it may be run here and now."""
