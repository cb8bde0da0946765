"""The command line: one file per command. It renders what `advisor.service` answers and computes nothing itself."""
