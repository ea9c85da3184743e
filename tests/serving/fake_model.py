"""A model behind OpenAI's chat contract that remembers what it was sent."""

from fastapi import FastAPI, Request

received = []
app = FastAPI()


@app.post("/v1/chat/completions")
async def complete(request: Request):
    body = await request.json()
    received.append(body)
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 0,
        "model": body["model"],
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Ada Moreau."}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
