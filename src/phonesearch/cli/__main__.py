"""`python -m phonesearch.cli` is `phonesearch`."""

from phonesearch.cli import app

app()
