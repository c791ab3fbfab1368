"""An Optuna sampler for two objectives, one cheap and exact, one costly and noisy."""
