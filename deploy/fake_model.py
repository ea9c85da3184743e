"""An OpenAI-compatible model that answers with the messages that it was sent: shows what a proxy made of a request."""

from __future__ import annotations

import argparse
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FakeModel(BaseHTTPRequestHandler):
    """Answers `GET /v1/models` and `POST /v1/chat/completions`; everything else is 404."""

    def do_GET(self) -> None:  # the base class calls it so
        """The one model that there is."""
        if self.path != "/v1/models":
            return self._send(404, {"error": {"message": f"there is no {self.path}"}})
        return self._send(200, {"object": "list", "data": [{"id": "fake", "object": "model", "owned_by": "nobody"}]})

    def do_POST(self) -> None:  # the base class calls it so
        """One answer, whole; streaming is not asked for here."""
        asked = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))))
        if self.path != "/v1/chat/completions":
            return self._send(404, {"error": {"message": f"there is no {self.path}"}})
        content = json.dumps(asked["messages"], ensure_ascii=False)
        usage = {"prompt_tokens": len(content.split()), "completion_tokens": 0, "total_tokens": len(content.split())}
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
        head = {"id": "chatcmpl-fake", "object": "chat.completion", "created": 0, "model": asked.get("model", "fake")}
        return self._send(200, {**head, "choices": [choice], "usage": usage})

    def _send(self, status: int, data: dict[str, Any]) -> None:
        body = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--host", default="127.0.0.1")
    options.add_argument("--port", type=int, default=8000)
    given = options.parse_args()
    ThreadingHTTPServer((given.host, given.port), FakeModel).serve_forever()
