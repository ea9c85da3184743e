"""System 2 Attention over the user's own message, as a step of a pipeline (arXiv 2311.11829)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ctxshaper.data import Context
from ctxshaper.stages.base import Steps
from ctxshaper.stages.run import Run
from ctxshaper.stages.s2a.stage import S2A
from ctxshaper.text.segments import sentences


@dataclass(frozen=True, kw_only=True)
class S2AQuery(S2A):
    """Lets a language model rewrite the user's message without opinions and asides, and puts that in the query's place.

    It is `S2A.shape_query`, the paper's own case, for the stages behind it: they score by the facts and the question
    that are left, each supported by the message itself. A message of one sentence has nothing to leave out and is not
    asked about. Where nothing better is found the message stays, and a warning says why. What the user wrote stays in
    the trace, as `asked`, with the ranges of it that are gone; passages are not touched.
    """

    def steps(self, context: Context, run: Run) -> Steps:
        """Apply the rule of the class."""
        message, notes = context.query, run.log.notes
        if len(sentences(message)) < 2:
            return context
        (answer,) = yield [self.query_prompt(message, run.parts.generator)]
        shaped = self.read_query(message, answer, run.parts)
        if shaped.reason:
            notes["stays"] = shaped.reason
            run.log.warnings.append(f"the message stays as it was written: {shaped.reason}")
            return context
        own = message if self.variant == "keep_original" else ""
        query = "\n\n".join(filter(None, (own, shaped.context, shaped.question)))
        notes.update(asked=message, query=query, removed=[[span.start, span.end] for span in shaped.removed])
        if self._instruction:
            notes["instruction"] = self._instruction
        return replace(context, query=query)
