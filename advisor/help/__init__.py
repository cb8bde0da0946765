"""The pages of `advisor explain`."""
