"""Fuzzing of what reads files from elsewhere. `python -m fuzz --help`; see docs/reliability.md."""
