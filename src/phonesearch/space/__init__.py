"""What could be tried: ranges and choices, and drawing one legal point at a budget."""
