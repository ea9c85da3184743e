"""LiteLLM's proxy in front of a model: its generic guardrail and its headroom guardrail speak to the service.

The proxy and the newest Cohere SDK live in an environment of their own (`make clients`): they do not go with ours.
"""

import json
import os
import secrets
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
import yaml

from tests.serving import fake_model
from tests.serving.test_chats import ANSWER, OTHERS, rag_chat, tool_chat
from tests.serving.test_rerank import DOCUMENTS, QUESTION

KEY = f"sk-{secrets.token_hex(32)}"
CLIENTS = Path(__file__).parents[2] / ".venv-clients" / "bin"
pytestmark = pytest.mark.skipif(not (CLIENTS / "litellm").exists(), reason="needs make clients")


@contextmanager
def model():
    server = uvicorn.Server(uvicorn.Config(fake_model.app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def proxy(url, tmp_path_factory):
    """LiteLLM in front of a fake model, with this service as both kinds of guardrail."""
    folder = tmp_path_factory.mktemp("litellm")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with model() as behind:
        generic = {"guardrail": "generic_guardrail_api", "mode": "pre_call", "api_base": url, "api_key": "any"}
        params = {"additional_provider_specific_params": {"budget": "40%"}}
        config = {
            "model_list": [
                {
                    "model_name": "gpt-4o",
                    "litellm_params": {"model": "openai/gpt-4o", "api_base": f"{behind}/v1", "api_key": "k"},
                }
            ],
            "guardrails": [
                {"guardrail_name": "shaper", "litellm_params": generic | params},
                {
                    "guardrail_name": "compressor",
                    "litellm_params": {"guardrail": "headroom", "mode": "pre_call", "api_base": url},
                },
            ],
        }
        file = folder / "config.yaml"
        file.write_text(yaml.safe_dump(config), encoding="utf-8")
        command = [CLIENTS / "litellm", "--config", file, "--port", str(port), "--host", "127.0.0.1"]
        environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOG": "ERROR",
            "LITELLM_MASTER_KEY": KEY,
        }
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)
        try:
            base = f"http://127.0.0.1:{port}"
            for _ in range(600):
                assert process.poll() is None, (folder / "log").read_text()[-3000:]
                try:
                    if httpx.get(f"{base}/health/liveliness", timeout=5).status_code == 200:
                        break
                except httpx.TransportError:
                    pass
                time.sleep(0.3)
            yield base
        finally:
            process.terminate()
            process.wait(30)


def complete(proxy, messages, guardrail):
    fake_model.received.clear()
    body = {"model": "gpt-4o", "messages": messages, "guardrails": [guardrail]}
    headers = {"authorization": f"Bearer {KEY}"}
    answer = httpx.post(f"{proxy}/v1/chat/completions", json=body, headers=headers, timeout=120)
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"] == "Ada Moreau."
    (received,) = fake_model.received
    return received["messages"]


def shortened(arrived, given):
    said = arrived["content"] if isinstance(arrived["content"], str) else arrived["content"][0]["text"]
    assert ANSWER[:40] in said
    assert len(said) < 0.7 * len(given["content"])
    assert sum(text[:40] in said for text in OTHERS) < len(OTHERS)
    return said


@pytest.mark.parametrize("chat", [rag_chat, tool_chat])
def test_the_generic_guardrail_shapes_what_arrives_at_the_model(proxy, chat):
    given = chat()
    arrived = complete(proxy, given, "shaper")
    assert [row["role"] for row in arrived] == [row["role"] for row in given]
    said = shortened(arrived[-1], given[-1])
    if chat is tool_chat:
        assert all(set(entry) == {"id", "text"} for entry in json.loads(said))
        assert arrived[2]["tool_calls"] == given[2]["tool_calls"]


def test_the_headroom_guardrail_shapes_the_tools_results_of_earlier_rounds(proxy):
    # It never sends the newest question, nor the exchange with tools that is under way.
    given = [*tool_chat(), {"role": "assistant", "content": "Ada Moreau."}, {"role": "user", "content": "Is she old?"}]
    arrived = complete(proxy, given, "compressor")
    assert [row["role"] for row in arrived] == [row["role"] for row in given]
    shortened(arrived[3], given[3])
    assert arrived[4:] == given[4:]


def test_what_holds_no_passages_arrives_as_it_was(proxy):
    given = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who designed the Ember Bridge?"}]
    assert complete(proxy, given, "shaper") == given


def test_the_newest_cohere_sdk(url):
    script = f"""
import cohere, json
client = cohere.ClientV2(api_key="any", base_url={url!r})
found = client.rerank(query={QUESTION!r}, documents={DOCUMENTS!r}, model="qa", top_n=2)
print(json.dumps([[r.index, r.relevance_score] for r in found.results]))
"""
    done = subprocess.run([CLIENTS / "python", "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found[0][0] == 2
    assert found[0][1] > found[1][1]
