"""`ctxshaper index`: what it read, no other process reads again."""

import json
import re
import signal
import subprocess
import sys
import time
import tracemalloc

import pytest
from typer.testing import CliRunner

from ctxshaper import InvalidInputError, Pipeline, Reader
from ctxshaper.commands.app import app
from ctxshaper.data.files import iter_passages
from ctxshaper.reading.store import KeyStore
from ctxshaper.text.tokenization import Encoder

pytest.importorskip("lmdb", reason="lmdb is not installed: pip install 'ctxshaper[store]'")
pytestmark = pytest.mark.filterwarnings("ignore:no head profile")


def ask(*arguments, text=None):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=text)


def lines(count, **more):
    entries = ({"text": f"Thing {n} was built in {n + 1000}.", "title": f"Part {n % 7}", **more} for n in range(count))
    return "".join(json.dumps(entry) + "\n" for entry in entries)


def held(folder):
    with KeyStore(folder, read_only=True) as store:
        return sum(space.entries for space in store.stat().namespaces if space.kind == "keys")


def notes(context):
    return context.trace.stages[0].notes


@pytest.fixture
def corpus(tmp_path):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.jsonl").write_text(lines(40), encoding="utf-8")
    (tmp_path / "corpus" / "b.txt").write_text("The bridge was designed by Ada Moreau. " * 600, encoding="utf-8")
    return tmp_path / "corpus"


def test_the_first_query_of_a_new_process_finds_everything(corpus, tiny_model, tmp_path):
    model, store = tiny_model("llama"), tmp_path / "keys"
    command = [sys.executable, "-W", "ignore", "-m", "ctxshaper", "index", corpus, "--store", store, "--model", model]
    indexed = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert indexed.returncode == 0, indexed.stderr
    assert indexed.stderr == ""
    assert indexed.stdout.startswith("41 passages with ")
    pipeline = Pipeline.from_recipe("fast", reader=Reader(model, store=store))
    found = notes(pipeline.shape("Who designed the bridge?", iter_passages(corpus)))["readings"][0]
    assert (found["cache_hits"], found["cache_misses"]) == (0, 0)
    assert found["from_store"] == held(store) > 41  # the long text in windows


def test_run_again_it_reads_nothing_and_says_so(corpus, tiny_model, tmp_path):
    arguments = ["index", corpus, "--store", tmp_path / "keys", "--model", tiny_model("llama")]
    first, again = ask(*arguments), ask(*arguments)
    assert (first.exit_code, again.exit_code) == (0, 0), first.output + again.output
    assert ", 0 of them read already or repeated; " in first.stdout
    assert ", 41 of them read already or repeated; 0 tokens read" in again.stdout


def test_a_text_that_stands_twice_is_read_once(tiny_model, tmp_path):
    said = ask("index", "-", "--store", tmp_path, "--model", tiny_model("llama"), text=lines(20) + lines(30))
    assert said.exit_code == 0, said.output
    assert said.stdout.startswith("50 passages with ")
    assert ", 20 of them read already or repeated; " in said.stdout
    assert held(tmp_path) == 30


@pytest.mark.parametrize("ended", [signal.SIGKILL, signal.SIGINT])
def test_ended_half_way_it_goes_on_from_there(ended, tiny_model, tmp_path):
    model, store, count = tiny_model("llama"), tmp_path / "keys", 3000
    command = [sys.executable, "-W", "ignore", "-m", "ctxshaper", "index", "-", "--store", store, "--model", model]
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command,
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        text=True,
        # A suite that runs in the background of a shell ignores interrupts, and hands that on to its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    process.stdin.write(lines(count))
    process.stdin.flush()  # the pipe stays open: the stream cannot come to its end
    end = time.monotonic() + 300
    while not ((store / "store.mdb").is_file() and held(store)):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(ended)
    process.wait(60)
    said, problem = process.stdout.read(), process.stderr.read()
    for stream in (process.stdin, process.stdout, process.stderr):
        stream.close()
    before = held(store)
    assert 0 < before < count
    if ended == signal.SIGINT:
        assert process.returncode == 130
        assert said.startswith(tuple(f"{n:,} passages with" for n in range(before + 1)))
        assert problem == "ctxshaper: stopped; what was read is in the store, and the same command goes on from here\n"
    (tmp_path / "all.jsonl").write_text(lines(count), encoding="utf-8")
    again = ask("index", tmp_path / "all.jsonl", "--store", store, "--model", model)
    assert again.exit_code == 0, again.output
    assert again.stdout.startswith(f"{count:,} passages with")
    assert f", {before:,} of them read already or repeated; " in again.stdout
    assert held(store) == count


def test_memory_does_not_grow_with_the_stream(tiny_model, tmp_path):
    corpus = tmp_path / "long.jsonl"
    corpus.write_text(lines(4000, blob="x" * 20_000), encoding="utf-8")  # 80 MB
    arguments = ["--store", tmp_path / "keys", "--model", tiny_model("llama")]
    ask("index", "-", *arguments, text=lines(1))  # what is imported and loaded once does not count
    tracemalloc.start()
    try:
        said = ask("index", corpus, *arguments)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert said.exit_code == 0, said.output
    assert said.stdout.startswith("4,000 passages with ")
    assert peak < 40e6


def test_what_the_bound_does_not_hold_is_said(tiny_model, tmp_path):
    said = ask(
        "index", "-", "--store", tmp_path, "--model", tiny_model("llama"), "--max-bytes", "1MiB", text=lines(4000)
    )
    assert said.exit_code == 1
    assert "--max-bytes can raise it" in said.stderr
    assert said.stdout.startswith("4,000 passages with ")


def test_a_mistake_in_the_last_line_is_found_before_anything_is_read(tmp_path):
    (tmp_path / "a.jsonl").write_text(lines(3) + '{"txt": 1}\n', encoding="utf-8")
    said = ask("index", tmp_path / "a.jsonl", "--store", tmp_path / "keys")
    assert said.exit_code == 2
    assert "line 4: not a passage" in said.stderr
    assert not (tmp_path / "keys").exists()


def test_a_store_among_the_passages_is_refused_unless_hidden(corpus, tiny_model):
    said = ask("index", corpus, "--store", corpus / "keys")
    assert said.exit_code == 2
    assert "put the store elsewhere" in said.stderr
    hidden = ask("index", corpus, "--store", corpus / ".keys", "--model", tiny_model("llama"))
    assert hidden.exit_code == 0, hidden.output


def test_what_is_left_out_is_said_once(corpus, tiny_model, tmp_path):
    (corpus / "c.bin").write_bytes(bytes(range(256)) * 8)
    said = ask("index", corpus, "--store", tmp_path / "keys", "--model", tiny_model("llama"))
    assert said.exit_code == 0, said.output
    assert said.stderr.count("left out:") == 1


def test_shape_finds_what_was_indexed(corpus, tiny_model, tmp_path):
    options = ["--store", tmp_path / "keys", "--model", tiny_model("llama")]
    ask("index", corpus, *options)
    said = ask("shape", "-q", "Who designed it?", "--recipe", "fast", "--budget", "50%", "--json", corpus, *options)
    assert said.exit_code == 0, said.output
    assert json.loads(said.stdout)["trace"]["stages"][0]["notes"]["readings"][0]["cache_misses"] == 0


def test_with_a_recipe_its_first_query_embeds_and_tokenises_only_itself(corpus, tiny_model, tmp_path, monkeypatch):
    model, store, query = tiny_model("llama"), tmp_path / "keys", "Who designed the bridge?"
    command = [sys.executable, "-W", "ignore", "-m", "ctxshaper", "index", corpus, "--store", store, "--model", model]
    indexed = subprocess.run([*command, "--recipe", "qa"], capture_output=True, text=True, timeout=300)
    assert indexed.returncode == 0, indexed.stderr
    pipeline = Pipeline.from_recipe("qa", reader=Reader(model, store=store), tokenizer=len)
    embedded, encode = [], pipeline.parts.embedder.model.encode
    tokenised, data = [], Encoder.data
    pipeline.parts.embedder.model.encode = lambda texts, **more: embedded.extend(texts) or encode(texts, **more)
    monkeypatch.setattr(Encoder, "data", lambda self, text: tokenised.append(text) or data(self, text))
    shaped = pipeline.shape(query, iter_passages(corpus))
    assert notes(shaped)["readings"][0]["cache_misses"] == 0
    assert embedded == [query]
    # The automatic profile also asks a query without content.
    assert set(map(str.strip, tokenised)) <= {query, "N/A", ""}
    said = ask("store", "stat", store)
    assert re.search(r"embedding\W+[0-9a-f]{12}\W+\d", said.stdout)


def test_a_mistyped_recipe_is_said_before_anything_is_read(corpus, tmp_path):
    said = ask("index", corpus, "--store", tmp_path / "keys", "--recipe", "qaa")
    assert said.exit_code == 2
    assert "there is no recipe 'qaa'" in said.stderr
    assert not (tmp_path / "keys").exists()


def test_a_pipeline_takes_a_store_or_a_reader():
    with pytest.raises(InvalidInputError, match="pass the store to the reader"):
        Pipeline.from_recipe("fast", reader=object(), store="keys")
    with pytest.raises(InvalidInputError, match="a folder's path or a KeyStore"):
        Pipeline.from_recipe("fast", store=3)
