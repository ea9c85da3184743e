"""The page at `/`: try recipes and budgets in a browser. Its files are sent as they are; only recipes are filled in."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from functools import cache
from html import escape
from importlib.resources import files

from ctxshaper.data.page import style

# What the page loads, with the type of each.
ASSETS = {
    "app.js": "text/javascript; charset=utf-8",
    "code.js": "text/javascript; charset=utf-8",
    "passages.js": "text/javascript; charset=utf-8",
    "app.css": "text/css; charset=utf-8",
    "samples.json": "application/json",
}


@cache
def asset(name: str) -> bytes:
    """A file of the page."""
    return files(__name__).joinpath(name).read_bytes()


def page(recipes: Iterable[str], usual: str) -> bytes:
    """The page itself.

    Args:
        recipes: names that a request may ask for as `model`.
        usual: the one that is chosen at first.
    """
    options = "".join(
        f"<option{' selected' * (name == usual)}>{escape(name)}</option>"
        for name in sorted(recipes, key=lambda name: (name != usual, name))
    )
    return asset("index.html").replace(b"<!-- recipes -->", options.encode("utf-8", "replace"))


@cache
def policy() -> str:
    """What the page may do: its own files, its own service, and the style of shaped pages by its hash; nothing else.

    The pages of shaped contexts stand in frames that may run nothing, and these inherit this policy.
    """
    look = base64.b64encode(hashlib.sha256(style().encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self' 'sha256-{look}'; connect-src 'self'; "
        "img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
