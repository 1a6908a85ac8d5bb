"""Fuzzing of the code that reads files from elsewhere. `python -m fuzz --help`; see docs/reliability.md."""
