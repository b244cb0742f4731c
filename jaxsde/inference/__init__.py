"""Estimates and records turned into parameters with errors."""
