"""What must never show: keys and logins, however a server echoes them."""

import base64
import json
import logging
import traceback

import pytest

from ctxshaper.errors import GeneratorError, InvalidInputError
from ctxshaper.generators import OpenAIGenerator, openai
from ctxshaper.generators.redaction import Redactor
from tests.generators.conftest import completion


def test_a_key_never_shows_in_errors(endpoint, ask, monkeypatch):
    make, seen = endpoint
    monkeypatch.setenv("CTXSHAPER_TEST_KEY", "sk-secret")
    with pytest.raises(GeneratorError, match="CTXSHAPER_TEST_KEY") as caught:
        ask(make((401, {}, "bad key sk-secret")))
    assert "sk-secret" not in str(caught.value)
    assert len(seen) == 1


KEY = 'sk-proj-Zq7+Wx/9_kT&4LmPv"8bRn2'
# No eight characters of the key may stand in a row in what is shown, in none of these spellings.
SPELLINGS = {
    "plain": KEY,
    "upper case": KEY.upper(),
    "in a URL": "Zq7%2BWx%2F9_kT%264LmPv%228bRn2",
    "in JSON": json.dumps(KEY),
    "in HTML": KEY.replace("&", "&amp;").replace('"', "&quot;"),
    "base64": base64.b64encode(KEY.encode()).decode(),
    "base64 of the header": base64.b64encode(f"Bearer {KEY}".encode()).decode(),
    "base64 of a login": base64.urlsafe_b64encode(f"u:{KEY}".encode()).decode(),
    "hexadecimal": KEY.encode().hex(),
    "the first part": KEY[:14],
    "the last part": KEY[-14:],
}


def hides(shown, secret):
    return not any(secret[i : i + 8] in shown for i in range(len(secret) - 7))


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize("form", ["status", "not a completion", "refusal"])
def test_an_echoed_key_never_shows(endpoint, monkeypatch, spelling, form):
    monkeypatch.setenv("CTXSHAPER_TEST_KEY", KEY)
    refusal = json.dumps({"choices": [{"message": {"refusal": f"not for {spelling}"}}]})
    step = {
        "status": (403, {}, f"no: {spelling} !"),
        "not a completion": (200, {}, spelling),
        "refusal": (200, {}, refusal),
    }
    with pytest.raises(GeneratorError) as caught:
        endpoint[0](step[form]).generate("x")
    shown = "".join(traceback.format_exception(caught.value))
    assert "***" in str(caught.value)
    # First and last characters of base64 hold what stands around the key.
    assert hides(shown, spelling[10:-3])
    assert hides(shown, KEY)


@pytest.mark.parametrize("before", range(280, 300, 3))
def test_a_key_is_hidden_before_an_errors_body_is_cut(endpoint, monkeypatch, before):
    monkeypatch.setenv("CTXSHAPER_TEST_KEY", KEY)
    with pytest.raises(GeneratorError) as caught:
        endpoint[0]((403, {}, "." * before + KEY)).generate("x")
    assert KEY[:4] not in str(caught.value)


def test_a_body_that_the_server_cut_in_the_midst_of_the_key():
    hide = Redactor([KEY])
    assert [hide(f"invalid: {KEY[:n]}") for n in range(4, len(KEY) + 1)] == ["invalid: ***"] * (len(KEY) - 3)
    assert Redactor(["x"])("x is no word of extra") == "*** is no word of extra"
    assert Redactor([""])("nothing to hide") == "nothing to hide"


@pytest.mark.parametrize("key", ["sk-one\nsk-two", "sk-one two", "sk-sch\u00f6n", "sk-\x00null"])
def test_a_key_that_cannot_be_sent_is_refused_without_showing_it(endpoint, ask, monkeypatch, key):
    make, seen = endpoint
    monkeypatch.setattr(openai.os, "environ", {"CTXSHAPER_TEST_KEY": key})
    with pytest.raises(GeneratorError, match="CTXSHAPER_TEST_KEY holds a line break") as caught:
        ask(make())
    assert "sk-" not in "".join(traceback.format_exception(caught.value))
    assert not seen


def test_a_line_break_behind_a_key_is_not_sent(endpoint, monkeypatch):
    make, seen = endpoint
    monkeypatch.setenv("CTXSHAPER_TEST_KEY", "sk-secret\n")
    assert make(completion("ok")).generate("x") == "ok"
    assert seen[0][1] == "Bearer sk-secret"


def test_a_login_in_the_url_is_sent_and_never_shown(endpoint, ask, monkeypatch, caplog):
    make, seen = endpoint
    monkeypatch.delenv("CTXSHAPER_TEST_KEY", raising=False)
    caplog.set_level(logging.DEBUG)
    echo = base64.b64encode(b"me:pass/word1").decode()
    generator = make((403, {}, f"pass/word1 pass%2Fword1 {echo}"), login="me:pass%2Fword1@", retries=0)
    with pytest.raises(GeneratorError, match=r"127\.0\.0\.1") as caught:
        ask(generator)
    assert seen[0][1] == f"Basic {echo}"
    shown = repr(generator) + "".join(traceback.format_exception(caught.value)) + caplog.text
    assert not any(secret in shown for secret in ("word1", echo))
    gone = OpenAIGenerator(model="m", base_url="http://me:password1@127.0.0.1:9", retries=0)
    with pytest.raises(GeneratorError, match="ConnectError") as caught:
        ask(gone)
    assert "password1" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "url", ["me:pass@host/v1", "ftp://me:pass@host", "http://me:pass@", "http://h/v1?key=pass", "http://me:pass@h:x/"]
)
def test_a_bad_url_is_refused_without_showing_what_may_be_secret(url):
    with pytest.raises(InvalidInputError, match="base_url") as caught:
        OpenAIGenerator(model="m", base_url=url)
    assert "pass@" not in str(caught.value)
    assert "key=" not in str(caught.value)
