"""What runs in threads: planning, tasks on this machine, and long work. Imports no Textual."""
