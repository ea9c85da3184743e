"""Names on the hub: asked for once and quickly, found in the cache without a network, and told apart from typos."""

import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import sys, time
from ctxshaper.errors import ModelError
from ctxshaper.models.finding import resolve_lm
from ctxshaper.models.loading import load_tokenizer
start = time.perf_counter()
try:
    found = resolve_lm("nope/none").on_disk()
    print(found.name, found.location)
    print(found.fingerprint())
except ModelError as error:
    print(error)
print(round(time.perf_counter() - start, 1))
"""


def ask(home, endpoint, offline=""):
    # A process of its own: the hub's client reads these once.
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={
            **{k: v for k, v in os.environ.items() if not k.startswith("HF_")},
            "HF_HOME": str(home),
            "HF_ENDPOINT": endpoint,
            "HF_HUB_OFFLINE": offline,
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


@pytest.fixture
def cached(tmp_path, tiny_model):
    """A hub cache that holds a model under the name nope/none."""
    commit = "0" * 40
    repository = tmp_path / "hub" / "models--nope--none"
    (repository / "snapshots").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots" / commit).symlink_to(tiny_model("llama"))
    return tmp_path


@pytest.fixture
def server():
    """A hub that answers every question with the status it is told."""

    class Handler(BaseHTTPRequestHandler):
        asked: ClassVar[list[str]] = []
        headers_out: ClassVar[dict[str, str]] = {}
        status, wait = 404, 0.0

        def do_HEAD(self):
            # The client may ask about itself; what counts is who is asked for.
            self.asked += [self.path] * ("nope" in self.path)
            time.sleep(self.wait)
            self.send_response(self.status)
            for name, value in self.headers_out.items():
                self.send_header(name, value)
            self.end_headers()

        do_GET = do_HEAD  # noqa: N815

        def log_message(self, *args):
            pass

    serving = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=serving.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{serving.server_port}", Handler
    serving.shutdown()
    thread.join()
    serving.server_close()


def test_a_hub_out_of_reach_is_noticed_at_once_and_the_advice_comes_first(tmp_path):
    message, seconds = ask(tmp_path, "http://127.0.0.1:9")
    assert message.startswith("download 'nope/none' first and pass its folder")
    assert "HF_HUB_OFFLINE=1" in message
    assert "cannot be reached" in message
    assert float(seconds) < 10


def test_offline_nothing_is_asked(tmp_path, server):
    endpoint, handler = server
    message, _ = ask(tmp_path, endpoint, offline="1")
    assert "cannot be reached" in message
    assert not handler.asked


def test_a_model_in_the_cache_needs_no_hub(cached, tiny_model):
    from ctxshaper.models.finding import resolve_lm

    found, fingerprint, seconds = ask(cached, "http://127.0.0.1:9")
    assert found.startswith("nope/none ")
    assert fingerprint == resolve_lm(tiny_model("llama")).fingerprint()
    assert float(seconds) < 10


def test_a_name_that_the_hub_does_not_have_is_told_apart(tmp_path, server):
    endpoint, handler = server
    handler.headers_out = {"X-Error-Code": "RepoNotFound"}
    message, _ = ask(tmp_path, endpoint)
    assert message.startswith("the hub has no model 'nope/none'")
    assert handler.asked == ["/nope/none/resolve/main/config.json"]


@pytest.mark.parametrize(("status", "wait"), [(503, 0), (429, 0), (200, 30)])
def test_a_hub_that_is_busy_or_slow_is_not_waited_for(cached, server, status, wait):
    endpoint, handler = server
    handler.status, handler.wait = status, wait
    found, _, seconds = ask(cached, endpoint)
    assert found.startswith("nope/none ")
    assert float(seconds) < 12
    assert handler.asked == ["/nope/none/resolve/main/config.json"]
