"""The page in a browser, where one is installed: nothing runs, nothing is asked for, it is quick."""

import http.server
import shutil
import subprocess
import threading
import time

import pytest

from ctxshaper import Context, Passage, Span

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium is installed: what it would show is not looked at")


@pytest.fixture
def site():
    """A folder's worth of pages in memory: its address, the pages by path, and what was asked for."""
    pages, asked = {}, []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(pages.get(self.path, "").encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", pages, asked
    server.shutdown()
    server.server_close()


def dom(address, folder):
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={folder}",
        "--dump-dom",
        address,
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def test_no_script_runs_and_nothing_is_fetched_and_a_hundred_passages_show_at_once(site, tmp_path):
    address, pages, asked = site
    hostile = (
        f"<script>document.title='ran'</script><img src={address}/a.png onerror=\"document.title='ran'\">"
        f"</style><link rel=stylesheet href={address}/b.css><iframe src={address}/c></iframe>"
    )
    passages = [Passage(f"{hostile} {n} " + "Some words follow here. " * 40).keep([Span(0, 400)]) for n in range(100)]
    built = Context(hostile, tuple(passages), len)
    pages["/page"] = built.to_html()
    # Even what gets past the escaping is stopped by the page's own policy.
    pages["/inside"] = pages["/page"].replace("<main>", f"<main>{hostile}<script>document.title='ran'</script>")
    pages["/empty"] = "<title>empty</title>"
    took = {}
    for path in ("/empty", "/page", "/inside"):
        started = time.perf_counter()
        seen = dom(address + path, tmp_path)
        took[path] = time.perf_counter() - started
        assert "<title>ran" not in seen
        assert path == "/empty" or seen.count("<article") == 100
    assert set(asked) - {"/favicon.ico"} == {"/empty", "/page", "/inside"}
    assert took["/page"] - took["/empty"] < 1
