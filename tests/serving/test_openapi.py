"""What the service's OpenAPI says is what it does: schemathesis sends what is allowed and what is not."""

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from ctxshaper import FakeReader, Parts
from ctxshaper.serving.app import create_app
from tests.serving.conftest import serving, settings

schema = schemathesis.openapi.from_asgi("/openapi.json", create_app(settings(), Parts(reader=FakeReader())))


@pytest.fixture(scope="module")
def address():
    with serving(settings(timeout=20.0)) as url:
        yield url


@schema.parametrize()
@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_request_makes_it_fail(case, address):
    answer = case.call(base_url=address)
    case.validate_response(answer, checks=[not_a_server_error, status_code_conformance, response_schema_conformance])


def test_every_example_in_it_works(address):
    found = httpx.get(f"{address}/openapi.json").json()
    tried = 0
    for path, methods in found["paths"].items():
        body = methods.get("post", {}).get("requestBody", {}).get("content", {}).get("application/json")
        if body is None:
            continue
        name = body["schema"]["$ref"].rpartition("/")[2]
        for example in found["components"]["schemas"][name]["examples"]:
            answer = httpx.post(f"{address}{path}", json=example)
            assert answer.status_code == 200, answer.text
            tried += 1
    assert tried >= 6
