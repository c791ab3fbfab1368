"""The phone at the end of the cable: its state, its runtime and what runs on it."""
