"""The plan file: its record, writing it from an advice, reading it back, and checks before it is run."""
