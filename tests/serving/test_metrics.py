"""What the service counts and logs: numbers, and nobody's text."""

import json
import logging

import httpx
import pytest

from ctxshaper import Context
from ctxshaper.serving.logs import JsonLines
from ctxshaper.serving.metrics import Metrics, kind
from tests.serving.conftest import serving, settings

SAID = "The vault has the code 4711, says nobody."


def metrics(url):
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


def test_requests_tokens_stages_and_warnings_are_counted():
    with serving(settings()) as url:
        body = {"query": "vault", "passages": [SAID, "Another text, longer than the other."], "budget": 6}
        for _ in range(3):
            assert httpx.post(f"{url}/v1/shape", json=body).status_code == 200
        httpx.post(f"{url}/v1/shape", json={})
        httpx.get(f"{url}/made/up/{SAID}")
        found = metrics(url)
    assert found['ctxshaper_requests_total{route="/v1/shape",status="200"}'] == 3
    assert found['ctxshaper_requests_total{route="/v1/shape",status="422"}'] == 1
    assert found['ctxshaper_requests_total{route="other",status="404"}'] == 1
    assert found['ctxshaper_request_seconds_count{route="/v1/shape"}'] == 4
    assert found['ctxshaper_stage_seconds_count{stage="EvidenceFilter"}'] == 3
    assert found['ctxshaper_tokens_total{direction="in"}'] > found['ctxshaper_tokens_total{direction="out"}'] > 0
    assert found['ctxshaper_warnings_total{kind="EvidenceFilter the best unit was cut to fit"}'] == 3
    assert found["ctxshaper_queue"] == found["ctxshaper_working"] == 0
    assert "4711" not in str(found)


def test_where_keys_were_found_is_counted(url):
    body = {"query": "Which colour?", "passages": ["A text that only this test holds, of a colour: green."]}
    before = metrics(url)
    for _ in range(2):
        httpx.post(f"{url}/v1/shape", json=body | {"budget": "auto"}, timeout=60)
    after = metrics(url)
    for found in ("read", "memory"):
        name = f'ctxshaper_passages_total{{found="{found}"}}'
        assert after[name] == before.get(name, 0) + 1


@pytest.mark.parametrize("logged", [False, True])
def test_a_line_of_json_a_request_without_text_unless_asked_for(caplog, logged):
    caplog.set_level(logging.INFO, "ctxshaper.serving")
    with serving(settings(log_content=logged)) as url:
        httpx.post(f"{url}/v1/shape", json={"query": "vault", "passages": [SAID], "budget": 5})
        httpx.post(f"{url}/v1/shape", json={"query": "vault\n{}", "passages": [{"text": SAID, "id": SAID}] * 2})
    lines = [JsonLines().format(record) for record in caplog.records if record.message == "request"]
    shaped = [line for line in map(json.loads, lines) if line["route"] == "/v1/shape"]
    assert len(shaped) == 2
    assert all(line["status"] == 200 and line["ms"] > 0 and line["tokens_in"] > 5 for line in shaped)
    assert not any("\n" in line for line in lines)
    assert ("4711" in str(shaped)) == logged
    assert ("vault" in str(shaped)) == logged


def test_a_failure_is_logged_with_its_place_and_answered_with_its_name(caplog):
    class Broken(Metrics):
        def count(self, shaped: Context) -> None:
            raise RuntimeError("of a kind that nobody foresaw")

    from ctxshaper import FakeReader, Parts
    from ctxshaper.serving import service

    told = settings()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service, "Metrics", Broken)
        with serving(told, Parts(reader=FakeReader())) as url:
            answer = httpx.post(
                f"{url}/v1/shape", json={"query": "q", "passages": ["a"]}, headers={"x-request-id": "n1"}
            )
    assert answer.status_code == 500
    assert "n1" in answer.json()["message"]
    assert "nobody foresaw" not in answer.text
    failure = next(record for record in caplog.records if record.exc_info)
    assert "nobody foresaw" in JsonLines().format(failure)
    assert failure.fields == {"id": "n1"}


def test_kinds_of_warnings_are_few():
    assert kind("EvidenceFilter: no passage is likely to answer (probability 0.01, abstain 0.2)") == (
        "EvidenceFilter no passage is likely to answer"
    )
    assert kind("nothing is kept: no stage left anything under Budget(tokens=3)") == "nothing is kept"
    assert kind("S2A failed and was skipped: GeneratorError: 'x' * 3") == "S2A failed and was skipped"
    assert len(kind("a" * 100_000)) <= 80
