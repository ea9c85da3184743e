"""`python -m ctxshaper`."""

from ctxshaper.cli import app

app()
