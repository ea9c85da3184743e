"""`ctxshaper serve`: the HTTP service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def serve(
    config: Annotated[
        Path | None,
        typer.Option(help="Settings in TOML. Environment variables (CTXSHAPER_HOST, ...) outrank it.", metavar="FILE"),
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="The address to listen on; 127.0.0.1 if left out. Others need an API key.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="The port; 8787 if left out, 0 for any that is free.")] = None,
    recipe: Annotated[
        str | None, typer.Option(help="The recipe for requests that name none, a shipped one or a YAML file; qa.")
    ] = None,
    store: Annotated[
        Path | None, typer.Option(help="A folder where what is read of passages is kept.", metavar="DIR")
    ] = None,
    allow_without_key: Annotated[
        bool, typer.Option("--allow-without-key", help="Listen on an address that others reach, without an API key.")
    ] = False,
) -> None:
    """Serve /v1/shape, /v1/rerank, /v1/compress, LiteLLM's guardrail, /v1/index, /metrics over HTTP.

    The API key comes from CTXSHAPER_API_KEY or the settings' file: on a command line others could read it.
    """
    import uvicorn

    from ctxshaper.serving.app import create_app
    from ctxshaper.serving.logs import configuration
    from ctxshaper.serving.settings import Settings

    given: dict[str, Any] = {"host": host, "port": port, "store": store}
    if allow_without_key:
        given["allow_without_key"] = True
    if recipe is not None:
        given |= {"recipe": recipe, "recipes": Settings.model_fields["recipes"].default | {recipe: recipe}}
    settings = Settings.load(config, **{name: value for name, value in given.items() if value is not None})
    app = create_app(settings)
    typer.echo(f"ctxshaper: listening on {settings.host}:{settings.port} once the models are loaded", err=True)
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        log_config=configuration(),
        access_log=False,
        server_header=False,
        # What was accepted is answered before the process ends.
        timeout_graceful_shutdown=int(settings.timeout) + 5,
        # A header is never so long; a slow one holds no more than this.
        h11_max_incomplete_event_size=64 * 1024,
    )
