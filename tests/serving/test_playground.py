"""The page at `/`: what it is sent with, and in a real browser: paste, slide, compare, copy, and nothing runs."""

import json
import shutil
import statistics
import subprocess
import sys
from contextlib import contextmanager

import httpx
import pytest

from ctxshaper import FakeReader, Parts
from ctxshaper.serving import playground
from tests.serving.conftest import serving, settings

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
in_a_browser = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no Chromium with its driver is installed: the page is not driven"
)
HOSTILE = [
    "<script>parent.document.title='ran';document.title='ran'</script>",
    "<img src=x onerror=\"parent.document.title='ran'\">",
    "</main></body><iframe srcdoc=\"<script>top.document.title='ran'</script>\"></iframe>",
    "</style></title><svg onload=top.document.title='ran'>",
    "\u202eevil\u202c \u2067x\u2069 \x00\x1b[31m \ud800 \U000e0041",
    "--- a title <b onmouseover=alert(1)>\nand `${text}` {{text}} '''\nEND\n\"\"\"",
    "one line of a megabyte " * 45_000,
]


def test_the_page_needs_no_key_and_may_load_nothing_from_elsewhere():
    names = {"fast": "fast", "<b>&'": "fast"}
    with serving(settings(api_key="secret", recipes=names)) as url:
        page = httpx.get(f"{url}/")
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert "<option selected>fast</option><option>&lt;b&gt;&amp;&#x27;</option>" in page.text
        assert "secret" not in page.text
        policy = page.headers["content-security-policy"]
        assert policy == playground.policy()
        assert "default-src 'none'; script-src 'self'; " in policy
        assert "unsafe" not in policy
        for name, kind in playground.ASSETS.items():
            found = httpx.get(f"{url}/playground/{name}")
            assert (found.status_code, found.headers["content-type"]) == (200, kind)
            assert found.headers["x-content-type-options"] == "nosniff"
            assert "http://" not in found.text.replace("http://www.w3.org", "")
        for other in ("__init__.py", "..%2fapp.py", "%00"):
            assert httpx.get(f"{url}/playground/{other}").status_code == 404
        assert httpx.post(f"{url}/v1/shape", json={"query": "a", "passages": ["b"]}).status_code == 401
        assert "/playground/{name}" not in httpx.get(f"{url}/openapi.json").json()["paths"]


def test_samples_are_requests_that_the_service_takes(fake_url):
    for sample in json.loads(playground.asset("samples.json")):
        asked = {"query": sample["query"], "passages": sample["passages"], "budget": "30%", "page": True}
        answer = httpx.post(f"{fake_url}/v1/shape", json=asked)
        assert answer.status_code == 200
        assert answer.json()["page"].startswith("<!doctype html>")


def test_a_page_comes_with_the_answer_only_if_asked_for(url):
    asked = {"query": "Who designed the bridge?", "passages": ["Ada Moreau designed the bridge. It is red."]}
    assert httpx.post(f"{url}/v1/shape", json=asked).json()["page"] is None
    plain = httpx.post(f"{url}/v1/shape", json=asked | {"page": True}).json()["page"]
    assert 'id="heat1"' not in plain
    heated = httpx.post(f"{url}/v1/shape", json=asked | {"page": True, "attention": True}).json()["page"]
    assert "layer 15, head 6" in heated


@contextmanager
def driven(url):
    """A browser that shows the playground."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for option in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,1400"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    browser.set_script_timeout(60)
    try:
        browser.get(url)
        wait(browser, "document.body.dataset.shown")
        yield browser
    finally:
        browser.quit()


def wait(browser, condition):
    """Until a condition of JavaScript holds; its value."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 60, poll_frequency=0.05).until(lambda it: it.execute_script(f"return {condition}"))


# Sets a control as a hand would, and gives the milliseconds until the page shows what follows from it.
_SET = """
const [id, json, done] = arguments, value = JSON.parse(json);  // the driver takes no lone surrogates
const control = document.getElementById(id);
const before = Number(document.body.dataset.shown), started = performance.now();
const seen = () => Number(document.body.dataset.shown) > before
  ? requestAnimationFrame(() => done(performance.now() - started)) : setTimeout(seen, 1);
if (control.type === "checkbox" || control.type === "radio") control.click();
else {
  control.value = value;
  control.dispatchEvent(new Event(control.tagName === "SELECT" ? "change" : "input", { bubbles: true }));
}
seen();
"""


def put(browser, control, value=None):
    """Give a control its value, or press it; how long it took until that showed, in milliseconds."""
    return browser.execute_async_script(_SET, control, json.dumps(value))


def frame(browser, which=0):
    """The text of a shaped context as it shows."""
    return browser.execute_script(f"return document.getElementById('frame{which}').contentDocument.body.innerText")


@in_a_browser
def test_paste_slide_compare_and_copy():
    parts = Parts(reader=FakeReader())
    with serving(settings(recipes={"fast": "fast", "other": "fast"}, api_key="k"), parts) as url, driven(url) as page:
        # Without the key it asks for one.
        assert "API key" in page.find_element("id", "problem").text
        put(page, "key", "k")
        assert page.find_element("id", "problem").text == ""
        put(page, "query", "Who designed the bridge?")
        put(page, "passages", '--- It\'s "Ember"\nAda designed the bridge. \\ It is red.\n\n---\nBananas are yellow.')
        put(page, "budget", 100)
        assert "Bananas are yellow." in frame(page)
        assert page.find_element("id", "said").text == "100%"
        assert "kept whole" in frame(page)
        put(page, "budget", 40)
        figures = page.find_element("id", "figures0").text
        assert "tokens (" in figures
        assert "Passage 1" in frame(page)  # of what was dropped, too
        # Scroll and switches stay as they are while the budget moves.
        page.execute_script("document.getElementById('frame0').contentDocument.getElementById('reasons').click()")
        put(page, "budget", 60)
        assert page.execute_script(
            "return document.getElementById('frame0').contentDocument.getElementById('reasons').checked"
        )
        put(page, "compare")
        assert page.find_element("id", "recipe1").get_attribute("value") == "other"
        assert "Who designed" not in frame(page, 1)  # the page around it says so
        assert 'Passage 0: It\'s "Ember"' in frame(page, 1)
        put(page, "heat")
        assert "all heads" in frame(page)
        # What is copied does what the page shows.
        code = page.find_element("id", "code").text
        printed = run_python(code)
        asked = {
            "query": "Who designed the bridge?",
            "passages": [
                {"text": "Ada designed the bridge. \\ It is red.", "title": 'It\'s "Ember"'},
                "Bananas are yellow.",
            ],
            "budget": "60%",
            "model": "fast",
        }
        told = httpx.post(f"{url}/v1/shape", json=asked, headers={"x-api-key": "k"}).json()
        assert printed == told["text"] + "\n"
        page.execute_script("document.getElementById('curl').click()")
        command = page.find_element("id", "code").text
        assert json.loads(command.splitlines()[1]) == asked
        if shutil.which("curl"):
            done = subprocess.run(
                ["/bin/sh", "-c", command], env={"CTXSHAPER_API_KEY": "k", "PATH": "/usr/bin:/bin"}, capture_output=True
            )
            assert json.loads(done.stdout)["text"] == told["text"]
        page.execute_cdp_cmd(
            "Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
        )
        page.find_element("id", "copy").click()
        wait(page, "document.getElementById('copied').textContent === 'copied'")
        assert page.execute_async_script("navigator.clipboard.readText().then(arguments[0])") == command
        put(page, "passages", '[{"title": "no text"}]')
        assert 'objects with "text"' in page.find_element("id", "problem").text
        put(page, "passages", "[1] A citation, and no JSON. The bridge.")
        assert "A citation, and no JSON." in frame(page)
        assert not [entry for entry in page.get_log("browser") if "Security Policy" in entry["message"]]


def run_python(code):
    """What copied code prints, with the fake reader in the place of the model."""
    faked = "import ctxshaper\nmade = ctxshaper.Pipeline.from_recipe\n" + (
        "ctxshaper.Pipeline.from_recipe = lambda name: made(name, reader=ctxshaper.FakeReader())\n"
    )
    return subprocess.run([sys.executable, "-c", faked + code], check=True, capture_output=True, text=True).stdout


@in_a_browser
@pytest.mark.parametrize("hostile", HOSTILE, ids=range(len(HOSTILE)))
def test_nothing_that_passages_say_runs_or_leaves_its_frame(playing, hostile):
    put(playing, "query", hostile[:100])
    put(playing, "budget", 95)
    put(playing, "passages", hostile)
    assert playing.title == "ctxshaper playground"
    assert wait(playing, "document.getElementById('frame0').contentDocument.querySelectorAll('article').length")
    inside = "document.getElementById('frame0').contentDocument"
    assert playing.execute_script(f"return {inside}.querySelectorAll('script, img, iframe, svg, link').length") == 0
    assert playing.execute_script(f"return {inside}.title") != "ran"
    assert playing.execute_script("return document.querySelectorAll('iframe').length") == 2
    loaded = playing.execute_script("return performance.getEntriesByType('resource').map(one => one.name)")
    assert {name.split("/")[2] for name in loaded if "://" in name} == {playing.current_url.split("/")[2]}


@pytest.fixture(scope="module")
def playing(fake_url):
    with driven(fake_url) as page:
        yield page


@in_a_browser
def test_from_the_slider_to_the_picture_it_is_quick(url):
    """Passages are in memory; what is measured is what a hand on the slider waits for."""
    with driven(url) as page:
        for budget in (20, 40, 60):
            put(page, "budget", budget)
        taken = sorted(put(page, "budget", 5 + 5 * (step % 19)) for step in range(40))
    _median, p95 = statistics.median(taken), taken[37]
    assert p95 < 1000
