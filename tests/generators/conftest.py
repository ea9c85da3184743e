"""An endpoint that plays a script, for the tests of the HTTP generator."""

import asyncio
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ctxshaper.generators import OpenAIGenerator, openai


def completion(text):
    return 200, {}, json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]})


@pytest.fixture
def endpoint(monkeypatch):
    """Plays (status, headers, body), seconds to hang, or functions of the handler; yields a maker and what it saw."""
    monkeypatch.setattr(openai, "_FIRST_WAIT", 0.01)
    seen, script = [], []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            seen.append((self.path, self.headers.get("authorization"), body, time.monotonic()))
            step = script.pop(0)
            if isinstance(step, float):
                time.sleep(step)
                return
            if callable(step):
                step(self)
                return
            status, headers, text = step
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text if isinstance(text, bytes) else text.encode())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def make(*steps, **options):
        script[:] = steps
        options = {"model": "m", "timeout": 2.0, "retries": 2, "api_key_env": "CTXSHAPER_TEST_KEY", **options}
        login = options.pop("login", "")
        return OpenAIGenerator(base_url=f"http://{login}127.0.0.1:{server.server_port}/v1/", **options)

    yield make, seen
    server.shutdown()
    server.server_close()


@pytest.fixture(params=["sync", "async"])
def ask(request):
    if request.param == "sync":
        return lambda generator, prompt="hello": generator.generate(prompt)
    return lambda generator, prompt="hello": asyncio.run(generator.agenerate(prompt))
