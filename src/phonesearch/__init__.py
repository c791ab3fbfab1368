"""Search decoder-only transformer shapes for phone speed before pre-training them."""

__version__ = "0.1.0"
