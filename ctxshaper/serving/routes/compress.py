"""`POST /v1/compress`, `GET /v1/retrieve/{hash}`: headroom's contract, for chats whose passages are to be shaped."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Path, Request
from pydantic import BaseModel, ConfigDict, Field

from ctxshaper.errors import DeadlineError
from ctxshaper.pipelines.chats import ShapedChat
from ctxshaper.serving.answers import Answer, StrictRoute
from ctxshaper.serving.chats import Way
from ctxshaper.serving.errors import failed
from ctxshaper.serving.routes.common import FAILURES, ServedChats

router = APIRouter(route_class=StrictRoute, tags=["chats"])

_NAME = "passages_shaped"


class CompressConfig(BaseModel):
    """How to compress. Fields of headroom that are not named here are ignored.

    Attributes:
        mode: "ccr" leaves a marker with a hash where something was shortened, for /v1/retrieve; without it none.
        frozen_message_count: so many messages at the begin go out exactly as they came.
        session_id: comes back; what is remembered goes by what a chat says, so it is not needed.
        target_ratio: the share of each text's tokens that may stay.
        recipe: the service's recipe; its usual one if left out (`model` is the generator's in this contract).
    """

    mode: Literal["ccr", "lossy_inline", "lossless_then_lossy"] | None = None
    frozen_message_count: Annotated[int, Field(ge=0)] = 0
    session_id: Annotated[str | None, Field(min_length=1, max_length=256)] = None
    target_ratio: Annotated[float | None, Field(gt=0, le=1)] = None
    recipe: str | None = None


class CompressRequest(BaseModel):
    """A chat in OpenAI's or Anthropic's form."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "messages": [
                        {"role": "user", "content": "Who designed the Ember Bridge?"},
                        {
                            "role": "tool",
                            "tool_call_id": "c1",
                            "content": '[{"text": "Ada Moreau designed it."}, {"text": "Bananas are yellow."}]',
                        },
                    ],
                    "config": {"mode": "ccr", "target_ratio": 0.5},
                }
            ]
        }
    )
    messages: list[dict[str, Any]]
    token_budget: Annotated[
        int | None, Field(ge=1, description="Of the whole chat: where it has more, old rounds are set aside.")
    ] = None
    config: CompressConfig = CompressConfig()


class CompressAnswer(BaseModel):
    """The chat as it should be sent, and what that saves.

    Attributes:
        messages: rows that did not change are those that came.
        tokens_before: of all texts as they came.
        tokens_after: as they go out.
        tokens_saved: the difference.
        compression_ratio: after over before.
        transforms_applied: what was done, by name and count.
        transforms_summary: the counts.
        ccr_hashes: for /v1/retrieve; of mode "ccr".
        warnings: what the user should know.
        session: the id, if one came.
        compression_skipped: whether the time was over, and the messages are those that came.
        skip_reason: why.
    """

    messages: list[dict[str, Any]]
    tokens_before: int
    tokens_after: int
    tokens_saved: int
    compression_ratio: float
    transforms_applied: list[str]
    transforms_summary: dict[str, int]
    ccr_hashes: list[str]
    warnings: list[str] = []
    session: dict[str, str] | None = None
    compression_skipped: bool = False
    skip_reason: str | None = None


@router.post("/v1/compress", response_model=CompressAnswer, responses=FAILURES, summary="Shape a chat's passages.")
async def compress(
    asked: CompressRequest,
    request: Request,
    chats: ServedChats,
    x_headroom_bypass: Annotated[str, Header(description='"true" passes the chat through.')] = "",
) -> Answer:
    """Shape the passages in a chat: results of tools, tagged and numbered documents. What else it holds stays."""
    config = asked.config
    session = {"id": config.session_id} if config.session_id else None
    if x_headroom_bypass.lower() == "true" or not asked.messages:
        return Answer(_told(ShapedChat(asked.messages, 0, 0), [], session))
    way = Way(config.recipe, config.target_ratio, asked.token_budget, config.mode == "ccr")
    try:
        shaped = await chats.shape(asked.messages, way, frozen=config.frozen_message_count)
    except DeadlineError:
        skipped = {"compression_skipped": True, "skip_reason": "compression_timeout"}
        return Answer(_told(ShapedChat(asked.messages, 0, 0), [], session) | skipped)
    hashes = [item.hash for item in shaped.items] + [one.hash for one in shaped.set_aside]
    request.scope["ctxshaper.log"] = {"tokens_in": shaped.tokens_before, "tokens_out": shaped.tokens_after}
    return Answer(_told(shaped, hashes if way.markers else [one.hash for one in shaped.set_aside], session))


@router.get("/v1/retrieve/{name}", responses=FAILURES, summary="What stood where something was shortened.")
async def retrieve(
    name: Annotated[str, Path(pattern="^[0-9a-f]{24}$", description="The hash of a marker.")], chats: ServedChats
) -> Answer:
    """The original of a text that was shortened, or the rows of a round that was set aside."""
    found = chats.original(name)
    if found is None:
        return failed(404, "not_found", f"nothing is remembered under {name}: it was too long ago, or elsewhere")
    return Answer({"hash": name, "original_content": found})


def _told(shaped: ShapedChat, hashes: list[str], session: dict[str, str] | None) -> dict[str, Any]:
    counts = {_NAME: len(shaped.items), "rounds_set_aside": len(shaped.set_aside)}
    summary = {name: count for name, count in counts.items() if count}
    before, after = shaped.tokens_before, shaped.tokens_after
    told: dict[str, Any] = {
        "messages": shaped.messages,
        "tokens_before": before,
        "tokens_after": after,
        "tokens_saved": before - after,
        "compression_ratio": round(after / before, 6) if before else 1.0,
        "transforms_applied": [f"{name}:{count}" for name, count in summary.items()],
        "transforms_summary": summary,
        "ccr_hashes": list(dict.fromkeys(hashes)),
        "warnings": list(shaped.warnings),
    }
    return told | ({"session": session} if session else {})
