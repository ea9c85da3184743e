"""Ray Serve: the service as a deployment, so that a cluster runs, scales and replaces its processes."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve import Application, Deployment

from ctxshaper.errors import ModelError
from ctxshaper.serving.app import create_app
from ctxshaper.serving.service import Service
from ctxshaper.serving.settings import Settings

# Seconds between two looks at whether the models are loaded.
_LOOK = 0.05


def deployment(settings: Settings | None = None) -> Deployment:
    """The service of `create_app` as a deployment of Ray Serve, which takes Serve's options.

    For example::

        served = deployment(Settings.load(store="/data/keys")).options(num_replicas=2)
        serve.run(served.bind())

    Replicas of one machine share the store's folder: a passage is read once by all of them together, also if they are
    asked for it at the same moment. A replica gets requests once its models are loaded; one that is taken away first
    answers what it has. Serve listens by its own options (`serve.start(http_options=...)`): the settings' host and port
    do not count, but their api_key does.

    Args:
        settings: what each replica is told, its store's folder as a path on its own machine; of this process's
            environment if None.

    Raises:
        InvalidInputError: settings that are not right.
    """
    told = settings or Settings.load()
    if told.store is not None:
        # Replicas start in folders of their own.
        told = told.model_copy(update={"store": told.store.resolve()})

    def build() -> FastAPI:
        return create_app(told)

    made: Deployment = serve.deployment(
        name="ctxshaper",
        # The service itself lets some wait, and tells the others when to come again.
        max_ongoing_requests=told.concurrency + told.queue + 1,
        graceful_shutdown_timeout_s=told.timeout + 5,
    )(serve.ingress(build)(_Replica))
    return made


def application(arguments: dict[str, Any]) -> Application:
    """The service for `serve run ctxshaper.serving.ray_serve:application` and for `import_path` in Serve's own files.

    Args:
        arguments: fields of `Settings`, such as `store=/data/keys`; what is left out comes from the environment.

    Raises:
        InvalidInputError: settings that are not right.
    """
    return deployment(Settings.load(**arguments)).bind()


class _Replica:
    """One process of the service."""

    app: FastAPI  # Serve's own property: what `build` gave

    async def check_health(self) -> None:
        """Asked before the first request, and every few seconds then; waits until the models are loaded.

        Raises:
            ModelError: they cannot be.
        """
        service: Service = self.app.state.service
        while not service.ready:
            if service.failure:
                raise ModelError(service.failure)
            await asyncio.sleep(_LOOK)
