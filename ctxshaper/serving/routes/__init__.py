"""One file per contract."""

from ctxshaper.serving.routes import compress, guardrail, health, index, playground, rerank, shape

ROUTERS = (
    shape.router,
    rerank.router,
    compress.router,
    guardrail.router,
    index.router,
    health.router,
    playground.router,
)

__all__ = ["ROUTERS"]
