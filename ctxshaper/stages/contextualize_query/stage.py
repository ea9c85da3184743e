"""Conversational query rewriting: a follow-up question becomes one that stands by itself (arXiv 2006.05009)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ctxshaper.data import Context
from ctxshaper.stages.base import Steps, WritingStage
from ctxshaper.stages.contextualize_query.checks import read_question
from ctxshaper.stages.contextualize_query.prompt import last_messages, rewriting_prompt
from ctxshaper.stages.run import Run


@dataclass(frozen=True, kw_only=True)
class ContextualizeQuery(WritingStage):
    """Puts a standalone question in place of a follow-up question, before anything is scored by it (Yu et al., 2020).

    The rule: where there is a chat before the query, one call of the generator, with a few examples, rewrites a
    question such as "Where was she born?" so that it says who is meant, or repeats it where it depends on nothing;
    later stages see the rewritten query. (Frameworks call this to contextualize or to condense a question.) It comes
    first in a pipeline.

    The answer is not taken on trust: it must be one question, of bounded length, that keeps the content words of the
    one that was asked and brings no name, number or many other words that the chat does not hold. Otherwise the query
    stays as it was asked, and a warning says why. What the user asked stays in the trace, as `asked`.
    """

    def steps(self, context: Context, run: Run) -> Steps:
        """Apply the rule of the class."""
        if not context.history:
            return context
        notes, generator = run.log.notes, run.parts.generator
        history = last_messages(context.history, context.query, generator.context_window, generator.count_tokens)
        if not history:
            return context
        notes["messages"] = len(history)
        (answer,) = yield [rewriting_prompt(history, context.query)]
        question, problem = read_question(answer, context.query, "\n".join(message["content"] for message in history))
        if problem:
            notes["stays"] = problem
            run.log.warnings.append(f"the question stays as it was asked, without the chat before it: {problem}")
            return context
        if question == context.query.strip():
            return context
        notes.update(asked=context.query, query=question)
        return replace(context, query=question)
