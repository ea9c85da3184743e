"""`ctxshaper eval` from end to end, and its page in a real browser."""

import json
import re
import shutil
import subprocess
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from ctxshaper.commands.app import app
from ctxshaper.evaluation.comparison import Comparison
from ctxshaper.evaluation.questions import made_up_questions
from ctxshaper.evaluation.report import to_html
from ctxshaper.evaluation.summary import summarize
from ctxshaper.reading.profile import Head, HeadProfile

HOSTILE = '<img src=x onerror="document.title=1">'


@pytest.fixture(autouse=True)
def one_reader_for_all(reader, monkeypatch):
    # Each run makes a reader of its own, and a tokenizer takes a second to load.
    monkeypatch.setattr(Comparison, "_reader", reader)


@pytest.fixture
def data(tmp_path):
    lines = []
    for number, q in enumerate(made_up_questions()[:3]):
        evidence = [{"passage": i, "text": q.passages[i].text} for i in q.gold]
        passages = [{"text": p.text, "title": p.title} for p in q.passages[:4]]
        lines.append(
            json.dumps(
                {"query": q.text, "passages": passages, "answers": q.answers, "evidence": evidence, "id": number}
            )
        )
    path = tmp_path / "questions.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def run(data, *options):
    where = ["--data", str(data), "--out", str(data.parent / "out")]
    return CliRunner().invoke(app, ["eval", *where, *map(str, options)], env={"COLUMNS": "200"})


def test_a_run_goes_on_where_it_stopped(data):
    out = data.parent / "out"
    asked = ("--recipe", "fast", "--recipe", "baseline:first-k", "--budget", "30%,80%", "--measure", "order")
    result = run(data, *asked)
    assert result.exit_code == 0, result.output
    whole = (out / "results.jsonl").read_text()
    rows = [json.loads(line) for line in whole.splitlines()]
    assert len(rows) == 3 * 2 * 2 == len({row["key"] for row in rows})
    for row in rows:
        assert row["tokens"] <= int(row["budget"][:-1]) / 100 * row["tokens_in"]
        # All questions are over the same passages: they are read anew for one of them, at the first budget.
        assert (row["cold_ms"] is not None) == (row["question"] == "0" and row["budget"] == "30%")
    # Passages read by themselves give the same scores in any order; the first sentences do not stay the first.
    orders = {name: [row["order"] for row in rows if row["recipe"] == name] for name in ("fast", "baseline:first-k")}
    assert max(orders["fast"]) == 0 < min(orders["baseline:first-k"])
    summary = json.loads((out / "summary.json").read_text())
    fast = next(line for line in summary["lines"] if (line["recipe"], line["budget"]) == ("fast", "80%"))
    sentences = [row["sentences"] for row in rows if (row["recipe"], row["budget"]) == ("fast", "80%")]
    assert fast["values"]["sentences"]["mean"] == sum(sentences) / 3
    assert "fast" in result.stdout
    assert "baseline:first-k" in result.stdout

    lines = whole.splitlines(keepends=True)
    (out / "results.jsonl").write_text("".join(lines[:5]) + lines[5][:40])
    assert run(data, *asked).exit_code == 0
    again = (out / "results.jsonl").read_text().splitlines(keepends=True)
    assert again[:5] == lines[:5]
    timeless = [{k: v for k, v in json.loads(line).items() if not k.endswith("_ms")} for line in again]
    assert timeless == [{k: v for k, v in row.items() if not k.endswith("_ms")} for row in rows]

    finished = (out / "results.jsonl").read_bytes()
    assert run(data, *asked).exit_code == 0
    assert (out / "results.jsonl").read_bytes() == finished


def test_the_heads_of_a_profile_are_the_ones_that_read(data):
    out, heads = data.parent / "out", data.parent / "heads.json"
    shipped = HeadProfile.shipped("SmolLM2-135M-Instruct")
    replace(shipped, heads=(Head(0, 0),)).save(heads)
    asked = ("--recipe", "fast", "--budget", "30%")
    for options in ((), ("--profile", heads)):
        result = run(data, *asked, *options)
        assert result.exit_code == 0, result.output
    rows = list(map(json.loads, (out / "results.jsonl").read_text().splitlines()))
    assert len({row["key"] for row in rows}) == 6  # the first run's results were not taken for the second's
    assert json.loads((out / "summary.json").read_text())["settings"]["reader"] == "embedded, heads of heads.json"


def test_other_settings_are_other_results():
    plain, task = Comparison(["fast"], ["30%"]), ("fast", "30%")
    keys = {
        plain.key("a question", task),
        plain.key("a question", ("fast", "50%")),
        plain.key("another", task),
        Comparison(["qa"], ["30%"]).key("a question", ("qa", "30%")),
        Comparison(["fast"], ["30%"], seed=1).key("a question", task),
        Comparison(["fast"], ["30%"], ["order"]).key("a question", task),
        Comparison(["fast"], ["30%"], model="other").key("a question", task),
        Comparison(["fast"], ["30%"], profile=HeadProfile("mine", (Head(1, 0),), 1)).key("a question", task),
        plain.key("a question", task, ("answers", "one")),
        plain.key("a question", task, ("answers", "other")),
    }
    assert len(keys) == 10
    # What a generator is asked for is a result of its own: shaping is not done again for it.
    assert Comparison(["fast"], ["30%"], ["answers"]).key("a question", task) in keys


def test_answers_of_two_models_are_compared_with_all_of_the_context_only_its_gold_and_none(data, tiny_model):
    asked = ("--recipe", "baseline:first-k", "--budget", "50%", "--limit", 2)
    for measure in ("likelihood", "answers", "distraction"):
        asked += ("--measure", measure)
    # The same model under two names: what is tried is who is asked what, and not what a model says.
    other = data.parent / "other"
    other.symlink_to(tiny_model("llama"))
    models = [str(tiny_model("llama")), str(other)]
    result = run(data, *asked, "--generator", models[0])
    assert result.exit_code == 0, result.output
    summary = json.loads((data.parent / "out" / "summary.json").read_text())
    lines = {line["recipe"]: line["values"] for line in summary["lines"]}
    assert set(lines) == {"baseline:first-k", "full", "gold", "none"}
    assert lines["none"]["tokens_kept"]["mean"] == 0 < lines["gold"]["tokens_kept"]["mean"] < 1
    assert lines["full"]["sentences"]["mean"] == lines["gold"]["sentences"]["mean"] == 1
    for values in lines.values():
        assert 0 <= values["f1"]["mean"] <= 1
        assert values["likelihood"]["mean"] < 0
    assert 0 <= lines["full"]["distraction"]["mean"] <= 1
    assert "distraction" not in lines["none"]
    gain = summary["lines"][0]["against"]["likelihood over full"]
    expected = lines["baseline:first-k"]["likelihood"]["mean"] - lines["full"]["likelihood"]["mean"]
    assert gain["gain"] == pytest.approx(expected)

    written = (data.parent / "out" / "results.jsonl").read_text()
    assert run(data, *asked, "--generator", models[0], "--generator", models[1]).exit_code == 0
    added = (data.parent / "out" / "results.jsonl").read_text().removeprefix(written).splitlines()
    assert {json.loads(line)["generator"] for line in added} == {models[1]}
    both = json.loads((data.parent / "out" / "summary.json").read_text())["lines"][0]["values"]
    assert both[f"likelihood@{models[0]}"] == lines["baseline:first-k"]["likelihood"]
    assert both[f"likelihood@{models[1]}"]["mean"] == pytest.approx(gain["gain"] + lines["full"]["likelihood"]["mean"])


def test_a_run_is_compared_with_an_earlier_one(data):
    asked = ("--recipe", "baseline:first-k", "--budget", "30%,80%")
    assert run(data, *asked).exit_code == 0
    (data.parent / "out").rename(data.parent / "old")
    old = data.parent / "old" / "results.jsonl"
    rows = [json.loads(line) for line in old.read_text().splitlines()]
    # As if an earlier version had kept nothing of the first two questions, and had not been asked the third.
    changed = [row | {"key": f"of another version {n}", "sentences": 0.0} for n, row in enumerate(rows)]
    old.write_text("".join(json.dumps(row) + "\n" for row in changed if row["question"] != "2"))
    result = run(data, *asked, "--against", data.parent / "old")
    assert result.exit_code == 0, result.output
    summary = json.loads((data.parent / "out" / "summary.json").read_text())
    for line in summary["lines"]:
        gain = line["against"]["sentences over run old"]
        own = [row["sentences"] for row in rows if row["budget"] == line["budget"] and row["question"] != "2"]
        assert gain["gain"] == pytest.approx(sum(own) / 2)
        assert gain["count"] == 2
        assert line["against"]["f2 over run old"]["gain"] == 0
    table = result.stdout.split("over run old")[1]
    assert re.search(r"first-k +│ +30% │ +sentences │ +\+0\.\d+ │ .* │ +2 │", table)
    assert re.search(r"first-k +│ +80% │ +f2 │ +\+0\.000 │", table)
    assert "sentences over run old" in (data.parent / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--recipe", "baseline:x"], "no baseline 'x'"),
        (["--recipe", "x"], "no recipe 'x'"),
        (["--recipe", "full"], "'full' is what recipes are compared with"),
        (["--budget", "lots"], "cannot read the budget 'lots'"),
        (["--budget", ","], "needs recipes, budgets"),
        (["--format", "x"], "no format 'x'"),
        (["--against", "nowhere"], "nowhere holds no results.jsonl"),
        (["--measure", "likelihood", "--generator", "m@http://host/v1"], "does not say how likely"),
    ],
)
def test_a_mistake_is_one_line(options, message, data):
    result = run(data, *options)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert not (data.parent / "out").exists()


def test_a_foreign_file_is_not_written_over(data):
    out = data.parent / "out"
    out.mkdir()
    (out / "results.jsonl").write_text('{"mine": 1}\n')
    result = run(data, "--recipe", "baseline:first-k", "--budget", "30%")
    assert result.exit_code == 2
    assert "results.jsonl, line 1" in " ".join(result.stderr.split())
    assert (out / "results.jsonl").read_text() == '{"mine": 1}\n'


def page():
    """A page with many recipes, long and hostile names, and every measure."""
    names = ["fast", "qa", HOSTILE, "baseline:" + "x" * 60, *(f"recipe-{i}" for i in range(8))]
    rows = [
        {
            "recipe": name,
            "budget": f"{share}%",
            "tokens_in": 1000,
            "tokens": share * 10,
            "tokens_kept": share / 100,
            "sentences": min(1, share / 60 + place / 30),
            "answer": float(question < 3),
            "likelihood": -1.0 - place / 10 - question / 5,
            "cold_ms": 400.0 + place if share == 15 else None,
            "warm_ms": 10.0 + 20 * place,
        }
        for place, name in enumerate(names)
        for share in (15, 30, 50)
        for question in range(4)
    ]
    rows += [
        {"recipe": "full", "budget": "", "tokens_in": 9, "tokens": 9, "tokens_kept": 1.0, "likelihood": -2.0}
        for _ in range(4)
    ]
    return to_html(summarize(rows, data=f"data {HOSTILE} {'y' * 80}", settings={"seed": 0, "reader": HOSTILE}))


def test_the_page_needs_nothing_and_escapes_everything():
    text = page()
    assert HOSTILE not in text
    assert text.count("&lt;img src=x") >= 5
    assert not re.search(r"<script|<link|<img|https?:|url\(|@import", text)
    assert text.count("<figure>") == 2
    assert text.count("<polyline") == 2 * 12


# Leaves the numbers in the page where a dump of it shows them. Only here: the page itself has no script.
PROBE = """<script>document.body.dataset.probe = JSON.stringify({
  wide: document.documentElement.scrollWidth, room: document.documentElement.clientWidth, title: document.title,
  words: Math.min(...[...document.querySelectorAll("figure > svg text")].map(t => t.getBoundingClientRect().height)),
  outside: [...document.querySelectorAll("figure > svg")].filter(s => { const b = s.getBoundingClientRect();
    return [...s.querySelectorAll("text")].some(t => { const r = t.getBoundingClientRect();
      return r.left < b.left - 1 || r.right > b.right + 1 || r.bottom > b.bottom + 1; }); }).length,
});</script></body>"""


@pytest.mark.parametrize("width", [1280, 500])
def test_the_page_fits_a_browser(width, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("Chromium is not installed (apt-get install chromium)")
    policy = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
    text = page()
    assert policy.search(text)
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    (tmp_path / "probed.html").write_text(policy.sub("", text).replace("</body>", PROBE), encoding="utf-8")
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={tmp_path / 'profile'}",
        f"--window-size={width},1600",
    ]
    shot = tmp_path / f"page-{width}.png"
    subprocess.run(
        [*command, f"--screenshot={shot}", f"file://{tmp_path}/page.html"], check=True, capture_output=True, timeout=60
    )
    assert shot.stat().st_size > 20_000
    dumped = subprocess.run(
        [*command, "--dump-dom", f"file://{tmp_path}/probed.html"], check=True, capture_output=True, timeout=60
    ).stdout.decode()
    probe = json.loads(re.search(r'data-probe="([^"]*)"', dumped)[1].replace("&quot;", '"').replace("&lt;", "<"))
    assert probe["wide"] <= probe["room"] <= width
    assert probe["words"] >= 11
    assert probe["outside"] == 0
    assert probe["title"].startswith("ctxshaper eval")
