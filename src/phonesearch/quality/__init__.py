"""What an architecture's final loss should be: a law of published losses, priors, and evidence."""
