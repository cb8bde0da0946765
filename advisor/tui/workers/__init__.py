"""What runs in threads: planning, machine tasks, jobs."""
