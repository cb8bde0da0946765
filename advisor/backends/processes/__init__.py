"""Child processes: jobs, events, starting and stopping."""
