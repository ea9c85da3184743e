"""Terms: what words are compared by, whatever their case."""

import re

# Scripts without spaces between words are matched by character; everything else by word.
_TERMS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W_]+")


def terms(text: str) -> list[str]:
    """The terms that BM25 compares: lower-cased words, single characters of Chinese and Japanese."""
    return _TERMS.findall(text.casefold())
