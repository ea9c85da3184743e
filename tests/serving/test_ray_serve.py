"""Ray Serve: two replicas read a passage once; one that is killed costs what it was at work on and no more."""

import socket
import threading
import time

import httpx
import psutil
import pytest

from ctxshaper.errors import InvalidInputError
from ctxshaper.serving.settings import Settings
from tests.serving.ray_session import started

serve = pytest.importorskip("ray.serve", reason="Ray Serve is not installed: pip install 'ctxshaper[ray]'")
pytest.importorskip("lmdb", reason="lmdb is not installed: pip install 'ctxshaper[store]'")

from ctxshaper.serving.ray_serve import application, deployment  # noqa: E402  # skipped where Ray is missing

TEXT = "The lighthouse was built in 1894. It stands on a rock. " * 20 + "Its keeper was called Oda Brandt."


@pytest.fixture(scope="module")
def url(tmp_path_factory, tiny_model):
    started()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = Settings.load(
        recipes={"fast": "fast"},
        recipe="fast",
        store=tmp_path_factory.mktemp("serve") / "keys",
        model=str(tiny_model("llama")),
        api_key="secret",
    )
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    served = deployment(told).options(
        num_replicas=2,
        ray_actor_options={"num_cpus": 0.5},
        health_check_period_s=1,
        logging_config={"log_level": "ERROR"},
    )
    serve.run(served.bind(), name="shaping")
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()


def ask(client, url, n, passages=(TEXT,)):
    body = {"query": f"Who was keeper {n}?", "passages": list(passages), "budget": "20%", "trace": True}
    return client.post(f"{url}/v1/shape", json=body, headers={"x-api-key": "secret"}, timeout=60)


def crowd(work, threads=8):
    """Run the same in many threads at once."""
    running = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
    for thread in running:
        thread.start()
    return running


def test_a_passage_asked_200_times_is_read_once_in_all(url):
    found = []

    def work(thread):
        with httpx.Client() as client:
            for n in range(25):
                answer = ask(client, url, 100 * thread + n)
                assert answer.status_code == 200, answer.text
                found.extend(answer.json()["trace"]["stages"][0]["notes"]["readings"])

    for thread in crowd(work):
        thread.join()
    assert len(found) == 200
    assert sum(notes["cache_misses"] for notes in found) == 1
    # The other replica was asked too, and took it from the store.
    assert sum(notes["from_store"] for notes in found) >= 1


def test_the_guard_and_the_health_of_the_service_are_there(url):
    assert httpx.get(f"{url}/readyz").json()["models"] == ["fast"]
    assert httpx.post(f"{url}/v1/shape", json={}).status_code == 401


def replicas():
    """The processes of the replicas of this test's own cluster."""
    found = [p for p in psutil.Process().children(recursive=True) if p.cmdline()[:1] != []]
    return [p for p in found if p.cmdline()[0].startswith("ray::ServeReplica:shaping:ctxshaper")]


def test_a_replica_killed_in_mid_load_costs_what_it_was_at_work_on(url):
    stop, answers, lock = threading.Event(), [], threading.Lock()

    def work(thread):
        n = 0
        with httpx.Client() as client:
            while not stop.is_set():
                n, started_at = n + 1, time.monotonic()
                # A passage of its own each time, so that replicas are at work at any moment.
                answer = ask(client, url, n, [f"{thread} {n}. {TEXT}"])
                with lock:
                    answers.append((started_at, time.monotonic(), answer.status_code))

    running = crowd(work, threads=4)
    time.sleep(2)
    victims = replicas()
    assert len(victims) == 2
    victims[0].kill()
    killed = time.monotonic()
    time.sleep(4)
    stop.set()
    for thread in running:
        thread.join()
    failed = [(begun, ended) for begun, ended, status in answers if status != 200]
    assert all(begun <= killed for begun, _ in failed), [(b - killed, e - killed) for b, e in failed]
    assert len(failed) <= 4
    assert sum(begun > killed for begun, _, status in answers) > 10
    end = time.monotonic() + 60
    while len(replicas()) < 2:  # and it is replaced
        assert time.monotonic() < end
        time.sleep(0.2)


def test_settings_that_are_not_right_are_said_at_once():
    with pytest.raises(InvalidInputError, match="stor"):
        application({"stor": "/data/keys"})
    made = application({"recipe": "fast", "timeout": "7"})
    assert made._bound_deployment.name == "ctxshaper"
