"""The candidate in the words of somebody else's trainer or runtime."""
