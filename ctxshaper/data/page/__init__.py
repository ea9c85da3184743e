"""One shaped context as an HTML page. It lives with the data since a context writes it as it writes its JSON."""

from ctxshaper.data.page.document import document, framed, style

__all__ = ["document", "framed", "style"]
