"""A plan file becomes a run: preflight, review, apply, machine profiles, quality reports."""
