"""What was typed, without Textual: fields, values, history, saved state."""
