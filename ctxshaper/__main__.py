"""`python -m ctxshaper`."""

from ctxshaper.commands.app import app

app()
