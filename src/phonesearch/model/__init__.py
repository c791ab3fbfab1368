"""The candidate as a torch module."""
