"""The search itself; the one room that knows Optuna."""
