"""Experiment files, result folders, pictures and commands: the only floor that does I/O."""
