"""One file per contract."""

from ctxshaper.serving.routes import health, index, rerank, shape

ROUTERS = (shape.router, rerank.router, index.router, health.router)

__all__ = ["ROUTERS"]
