"""Draws and writes prose; does no arithmetic worth testing."""
