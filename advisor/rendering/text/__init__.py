"""Values to plain text, for the command line and the terminal interface: one module for each thing that is shown."""
