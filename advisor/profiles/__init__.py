"""Facts, records, and the frozen types they parse into."""
