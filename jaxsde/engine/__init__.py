"""Matrices turned into shots and records."""
