"""What the service counts, for Prometheus. Names and numbers only: no text of anybody's."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from ctxshaper.data import Context

if TYPE_CHECKING:
    from ctxshaper.serving.admission import Admission

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
# A warning without its numbers and quotations says which kind it is; the pieces are short.
_PARTICULARS = re.compile(r"'[^']{0,200}'|\d[\d.,]{0,30}|[(:;].{0,2000}", re.DOTALL)
_LONGEST = 80
# How often a passage's keys were at hand, by where they were.
_FOUND = (("memory", "cache_hits"), ("store", "from_store"), ("read", "cache_misses"))


class Metrics:
    """The counters of one service, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        here = self.registry
        self._requests = Counter("ctxshaper_requests", "Requests.", ["route", "status"], registry=here)
        self._seconds = Histogram(
            "ctxshaper_request_seconds", "From arrival to answer.", ["route"], buckets=_SECONDS, registry=here
        )
        self._stages = Histogram("ctxshaper_stage_seconds", "By stage.", ["stage"], buckets=_SECONDS, registry=here)
        self._tokens = Counter("ctxshaper_tokens", "Tokens in and out.", ["direction"], registry=here)
        self._windows = Counter(
            "ctxshaper_passages", "Passages' keys, by where they were found; read: nowhere.", ["found"], registry=here
        )
        self._warnings = Counter("ctxshaper_warnings", "Warnings, by kind.", ["kind"], registry=here)
        self._waiting = Gauge("ctxshaper_queue", "Requests that wait for their turn.", registry=here)
        self._working = Gauge("ctxshaper_working", "Requests that are worked on.", registry=here)

    def watch(self, admission: Admission) -> None:
        """Show how many wait and work."""
        self._waiting.set_function(lambda: admission.waiting)
        self._working.set_function(lambda: admission.working)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count one answer."""
        self._requests.labels(route, status).inc()
        self._seconds.labels(route).observe(seconds)

    def count(self, shaped: Context) -> None:
        """Count what one shaped context took and gave."""
        self._tokens.labels("in").inc(shaped.tokens_in)
        self._tokens.labels("out").inc(shaped.tokens)
        for stage in shaped.trace.stages:
            self._stages.labels(stage.stage).observe(stage.seconds)
            for reading in stage.notes.get("readings", ()):
                for found, note in _FOUND:
                    self._windows.labels(found).inc(reading.get(note, 0))
        for warning in shaped.warnings:
            self._warnings.labels(kind(warning)).inc()

    def text(self) -> bytes:
        """All of it in Prometheus' own format."""
        return generate_latest(self.registry)


def kind(warning: str) -> str:
    """A warning's kind: what it says without names and numbers, so that there are few."""
    stage, colon, said = warning.partition(": ")
    if not colon or not stage.isidentifier():
        stage, said = "", warning
    return f"{stage} {' '.join(_PARTICULARS.sub(' ', said).split())}".strip()[:_LONGEST]
