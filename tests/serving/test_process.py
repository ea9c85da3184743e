"""`ctxshaper serve` as a process: it starts, answers, and on SIGTERM finishes what it accepted."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx

BODY = {
    "query": "Who designed the Ember Bridge?",
    "passages": [
        f"Passage {n} of the town. The Ember Bridge was designed by Ada Moreau. It is red." for n in range(20)
    ],
    "budget": "30%",
}


def started(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (tmp_path / "log").open("wb")
    command = [
        sys.executable,
        "-m",
        "ctxshaper",
        "serve",
        "--recipe",
        "fast",
        "--port",
        str(port),
        "--store",
        tmp_path / "k",
    ]
    process = subprocess.Popen(command, stderr=log, env=os.environ | {"CTXSHAPER_RECIPES": '{"fast": "fast"}'})
    url = f"http://127.0.0.1:{port}"
    until = time.monotonic() + 120
    while time.monotonic() < until:
        try:
            if httpx.get(f"{url}/readyz", timeout=30).status_code == 200:
                return process, url
        except httpx.TransportError:
            pass
        assert process.poll() is None, (tmp_path / "log").read_text()
        time.sleep(0.1)
    raise AssertionError("it did not get ready")


def test_sigterm_in_the_middle_of_its_work_loses_nothing_that_was_accepted(tmp_path):
    process, url = started(tmp_path)
    answers, refused = [], []
    stop = threading.Event()

    def ask():
        while not stop.is_set():
            try:
                # A connection of its own: an idle one that is closed under the client says nothing about the work.
                answers.append(httpx.post(f"{url}/v1/shape", json=BODY, timeout=60).status_code)
            except httpx.ConnectError:
                return  # the door is closed: this one was not accepted
            except httpx.TransportError as error:
                refused.append(repr(error))

    clients = [threading.Thread(target=ask) for _ in range(6)]
    for client in clients:
        client.start()
    while len(answers) < 20:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) in (0, -signal.SIGTERM)
    stop.set()
    for client in clients:
        client.join(60)
    assert set(answers) == {200}
    # Connections that the system had taken but the server had not looked at yet are reset: as many as clients at most.
    assert len(refused) <= len(clients)
    lines = (tmp_path / "log").read_text().splitlines()
    served = sum('"route": "/v1/shape", "status": 200' in line for line in lines)
    assert served == len(answers)
    assert not any(re.search(r'"level": "(error|critical)"', line) for line in lines)
