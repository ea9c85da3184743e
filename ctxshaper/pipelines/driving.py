"""A pipeline's steps run without blocking the event loop: computing in threads, awaiting the generator."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextvars import copy_context
from functools import partial

from ctxshaper import tracing
from ctxshaper.data import Context
from ctxshaper.data.deadline import Deadline
from ctxshaper.generators.base import Prompt
from ctxshaper.stages.base import Steps
from ctxshaper.stages.run import Run


async def adrive(steps: Steps, run: Run, deadline: Deadline) -> Context:
    """Run steps to their end: computing in a thread, awaiting the generator wherever they ask."""
    # One context for them all, whichever thread runs them: a span of a stage lasts over its questions to the generator,
    # whose spans are its children.
    own, computing = copy_context(), True
    resume: Callable[[], Sequence[Prompt]] = partial(next, steps)
    try:
        while True:
            context, prompts = await asyncio.to_thread(own.run, _advanced, resume)
            if context is not None:
                return context
            computing = False
            try:
                answers = await asyncio.create_task(_answers(run, prompts, deadline), context=own)
            except Exception as error:  # noqa: BLE001  # the stage may know what to do without an answer
                deadline.check()  # but not without time
                resume = partial(steps.throw, error)
            else:
                resume = partial(steps.send, answers)
            computing = True
    finally:
        if not computing:  # otherwise a thread is at it, which stops by itself
            own.run(steps.close)


async def _answers(run: Run, prompts: Sequence[Prompt], deadline: Deadline) -> list[str]:
    with tracing.span("ctxshaper.generate", prompts=len(prompts)):
        generator = await asyncio.to_thread(lambda: run.parts.generator)
        async with asyncio.timeout(deadline.left):
            return await generator.agenerate_batch(prompts)


def _advanced(resume: Callable[[], Sequence[Prompt]]) -> tuple[Context | None, Sequence[Prompt]]:
    """The next prompts, or the context where the steps are over: a thread cannot hand over StopIteration."""
    try:
        return None, resume()
    except StopIteration as done:
        return done.value, ()
