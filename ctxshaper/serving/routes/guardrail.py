"""`POST /beta/litellm_basic_guardrail_api`: LiteLLM's generic guardrail, which shapes what goes to a model."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from ctxshaper.pipelines.chats import ShapedChat
from ctxshaper.serving.answers import Answer, StrictRoute
from ctxshaper.serving.chats import Way
from ctxshaper.serving.routes.common import FAILURES, BudgetField, ServedChats
from ctxshaper.text.messages import read_by_model

router = APIRouter(route_class=StrictRoute, tags=["chats"])


class GuardrailParams(BaseModel):
    """What LiteLLM's configuration says under `additional_provider_specific_params`."""

    recipe: str | None = None
    budget: BudgetField = None
    block: Annotated[
        bool, Field(description="Whether passages that a stage sets aside, such as injected ones, block the request.")
    ] = False


class GuardrailRequest(BaseModel):
    """What LiteLLM is about to send, or received. Other fields are ignored."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "texts": ["<document>It was opened in 1931. It is red.</document> When was it opened?"],
                    "input_type": "request",
                }
            ]
        }
    )
    texts: list[str] = []
    structured_messages: list[dict[str, Any]] | None = None
    input_type: Literal["request", "response"] = "request"
    additional_provider_specific_params: GuardrailParams | None = None


class GuardrailAnswer(BaseModel):
    """What LiteLLM should do.

    Attributes:
        action: "NONE", "GUARDRAIL_INTERVENED" (send what is here instead) or "BLOCKED".
        blocked_reason: why.
        texts: one for each that came.
        structured_messages: one row for each that came.
    """

    action: Literal["NONE", "GUARDRAIL_INTERVENED", "BLOCKED"]
    blocked_reason: str | None = None
    texts: list[str] | None = None
    structured_messages: list[dict[str, Any]] | None = None


@router.post(
    "/beta/litellm_basic_guardrail_api",
    response_model=GuardrailAnswer,
    responses=FAILURES,
    summary="LiteLLM's generic guardrail.",
)
async def guardrail(asked: GuardrailRequest, request: Request, chats: ServedChats) -> Answer:
    """Shape the passages in a request on its way to a model; answers of models pass."""
    params = asked.additional_provider_specific_params or GuardrailParams()
    rows = asked.structured_messages or [{"role": "user", "content": text} for text in asked.texts]
    if asked.input_type == "response" or not rows:
        return Answer({"action": "NONE"})
    shaped = await chats.shape(rows, Way(params.recipe, params.budget))
    request.scope["ctxshaper.log"] = {"tokens_in": shaped.tokens_before, "tokens_out": shaped.tokens_after}
    if params.block and (reason := _set_aside(shaped)):
        return Answer({"action": "BLOCKED", "blocked_reason": reason})
    if shaped.messages == rows:
        return Answer({"action": "NONE"})
    answer: dict[str, Any] = {"action": "GUARDRAIL_INTERVENED", "texts": _texts(asked.texts, rows, shaped.messages)}
    if asked.structured_messages:
        answer["structured_messages"] = shaped.messages
    return Answer(answer)


def _set_aside(shaped: ShapedChat) -> str:
    """Why passages were set aside, without their text; empty where none was."""
    told = {one.reason: None for item in shaped.items for one in item.context.set_aside}
    return "; ".join(told)


def _texts(texts: Sequence[str], rows: Sequence[dict[str, Any]], messages: Sequence[dict[str, Any]]) -> list[str]:
    """The texts as the rows now have them; LiteLLM took them from the rows, in their order."""
    now: dict[str, deque[str]] = {}
    for row, message in zip(rows, messages, strict=True):
        for before, after in zip(read_by_model(row), read_by_model(message), strict=False):
            now.setdefault(before, deque()).append(after)
    # The last of them stays for what is there more often than it was found.
    return [text if not (left := now.get(text)) else left.popleft() if len(left) > 1 else left[0] for text in texts]
