"""Compares records: dominance, knee, tables."""
