"""Which optional package belongs to which extra, and what is really missing on this machine."""

from __future__ import annotations

from importlib.util import find_spec

from ctxshaper.errors import MissingDependencyError

# The package's import name, and the extra that installs it.
EXTRAS = {
    "torch": "reader",
    "transformers": "reader",
    "tokenizers": "reader",
    "numpy": "reader",
    "accelerate": "reader",
    "gguf": "reader",
    "bm25s": "retrieval",
    "lmdb": "store",
    "faiss": "retrieval",
    "sentence_transformers": "retrieval",
    "httpx": "api",
    "fastapi": "serve",
    "uvicorn": "serve",
    "pydantic_settings": "serve",
    "prometheus_client": "serve",
    "opentelemetry": "telemetry",
    "ray": "ray",
    "langchain_core": "langchain",
    "llama_index": "llama-index",
    "triton": "gpu",
}


def missing(extra: str) -> list[str]:
    """The packages of an extra that are not installed; nothing is imported to find out."""
    return [name for name, of in EXTRAS.items() if of == extra and find_spec(name) is None]


def install_line(extra: str) -> str:
    """The command that installs an extra."""
    return f"pip install 'ctxshaper[{extra}]'"


def advice(error: ImportError) -> str | None:
    """One line for an import that failed; None where no extra would help: another package, or one that is installed."""
    name = (error.name or "").partition(".")[0]
    if name not in EXTRAS or find_spec(name) is not None:
        return None
    return f"this needs {name}, which is not installed; {install_line(EXTRAS[name])}"


def missing_extra(what: str, error: ImportError) -> ImportError:
    """The error that names the extra which an import needs; the error itself where no extra would help."""
    line = advice(error)
    return error if line is None else MissingDependencyError(f"{what}: {line}")
