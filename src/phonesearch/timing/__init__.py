"""The stopwatch: measured time of an exported graph."""
