"""Ray Data: a corpus read by actors, once, also if the job dies half way; a table of requests shaped."""

import json
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from ctxshaper import InvalidInputError, Passage, Pipeline, Reader
from ctxshaper.reading.store import KeyStore
from ctxshaper.serving.ray_data import IndexPassages, ShapeRequests, merge_shards
from tests.serving.ray_session import ray, started

pytest.importorskip("lmdb", reason="lmdb is not installed: pip install 'ctxshaper[store]'")
pytestmark = [
    pytest.mark.filterwarnings("ignore:no head profile"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def cluster():
    return started()


def rows(first, last):
    return [
        {"text": f"Thing {n} was built in {n + 1000}.", "id": n, "title": f"Part {n % 7}"} for n in range(first, last)
    ]


def held(folder):
    with KeyStore(folder, read_only=True) as store:
        return sum(space.entries for space in store.stat().namespaces if space.kind == "keys")


SCRIPT = """
import sys, time
import ray
from ctxshaper.serving.ray_data import IndexPassages
from tests.serving.test_ray_data import rows

class Slow(IndexPassages):
    def __call__(self, batch):
        done = super().__call__(batch)
        time.sleep(0.3)
        return done

ray.init(address=sys.argv[1], log_to_driver=False)
arguments = {"store": sys.argv[2], "model": sys.argv[3]}
data = ray.data.from_items(rows(0, 200), override_num_blocks=4)
pool = ray.data.ActorPoolStrategy(size=2)
data.map_batches(Slow, fn_constructor_kwargs=arguments, compute=pool, num_cpus=0.5, batch_size=10).materialize()
"""


def test_killed_half_way_and_started_again_nothing_is_read_twice(cluster, tiny_model, tmp_path):
    model, store = str(tiny_model("llama")), tmp_path / "keys"
    free = ray.available_resources()["CPU"]
    driver = subprocess.Popen([sys.executable, "-c", SCRIPT, cluster, str(store), model])
    end = time.monotonic() + 120
    while not ((store / "store.mdb").is_file() and held(store) >= 50):
        assert driver.poll() is None
        assert time.monotonic() < end
        time.sleep(0.1)
    driver.send_signal(signal.SIGKILL)
    driver.wait(30)
    while ray.available_resources().get("CPU", 0) < free:  # until its actors are gone too
        assert time.monotonic() < end
        time.sleep(0.1)
    before = held(store)
    assert 50 <= before < 200
    # In files now, and a quarter of the texts stands twice: in whichever actor, each is read once.
    for name, part in (("a", rows(0, 125)), ("b", rows(75, 200))):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, part)), encoding="utf-8")
    done = ray.data.read_json([str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]).map_batches(
        IndexPassages,
        fn_constructor_kwargs={"store": str(store), "model": model},
        compute=ray.data.ActorPoolStrategy(size=2),
        num_cpus=0.5,
        batch_size=25,
    )
    again = dict(done.to_pandas().sum())
    assert (again["passages"], again["known"], again["read_windows"]) == (250, before + 50, 200 - before)
    assert held(store) == 200
    # What actors read is what this process would have read.
    notes = Reader(model, store=store).read("When?", [Passage(**_fields(row)) for row in rows(190, 200)]).notes
    assert (notes["from_store"], notes["cache_misses"]) == (10, 0)


def _fields(row):
    return {"source": row["text"], "metadata": {"title": row["title"]}}


def test_shards_of_machines_are_merged_and_used(tiny_model, tmp_path):
    # Frames of pandas, as mapInPandas of Spark hands them to its workers.
    model = str(tiny_model("llama"))
    for shard, part in (("a", rows(0, 30)), ("b", rows(20, 50))):
        done = pd.DataFrame(IndexPassages(tmp_path / "parts" / shard, model=model)(pd.DataFrame(part)))
        assert done["read_windows"].sum() == 30
    assert merge_shards(tmp_path / "parts", tmp_path / "parts" / "whole") > 0
    assert held(tmp_path / "parts" / "whole") == 50
    again = IndexPassages(tmp_path / "parts" / "whole", model=model)(pd.DataFrame(rows(0, 50)))
    assert (again["known"][0], again["read_windows"][0]) == (50, 0)
    with pytest.raises(InvalidInputError, match="no stores in the folders of"):
        merge_shards(tmp_path / "nowhere", tmp_path / "whole")


def test_a_store_that_keeps_nothing_ends_the_job(tiny_model, tmp_path):
    IndexPassages(tmp_path / "keys", model=tiny_model("llama"))(pd.DataFrame(rows(0, 3)))
    closed = KeyStore(tmp_path / "keys", read_only=True)
    index = IndexPassages(closed, model=tiny_model("llama"))
    assert index(pd.DataFrame(rows(0, 3)))["known"][0] == 3
    with pytest.raises(InvalidInputError, match="is not in the store"):
        index(pd.DataFrame(rows(3, 6)))


def test_with_a_recipe_its_stages_find_their_part_too(embedder, tiny_model, tmp_path):
    IndexPassages(tmp_path / "keys", recipe="qa", model=tiny_model("llama"))(pd.DataFrame(rows(0, 4)))
    with KeyStore(tmp_path / "keys", read_only=True) as store:
        assert {space.kind for space in store.stat().namespaces} >= {"keys", "tokens", "embedding"}


def test_requests_are_shaped_as_one_by_one(cluster, tiny_model, tmp_path):
    model = str(tiny_model("llama"))
    passages = [
        "The bridge was designed by Ada Moreau. She was born in Lyon.",
        {"text": "Bananas are rich in potassium. They grow in bunches.", "id": "b", "title": "Fruit"},
    ]
    table = [{"query": f"Who designed bridge {n}?", "passages": passages, "number": n} for n in range(6)]
    table[3]["query"] = " "
    # Texts beside objects: Arrow has no column of both, JSON of objects alone is what a file would hold.
    table = [row | {"passages": [p if isinstance(p, dict) else {"text": p} for p in row["passages"]]} for row in table]
    arguments = {"recipe": "fast", "budget": "50%", "store": str(tmp_path / "keys"), "model": model}
    shaped = ray.data.from_items(table).map_batches(
        ShapeRequests,
        fn_constructor_kwargs=arguments,
        compute=ray.data.ActorPoolStrategy(size=1),
        num_cpus=0.5,
        batch_size=4,
    )
    found = sorted(shaped.take_all(), key=lambda row: row["number"])
    assert [set(row) for row in found] == [{"query", "number", "text", "tokens", "spans", "warnings", "error"}] * 6
    assert "query must be a text" in found[3]["error"]
    assert (found[3]["text"], found[3]["spans"]) == ("", "[]")
    pipeline = Pipeline.from_recipe("fast", reader=Reader(model), budget="50%")
    given = [
        Passage("The bridge was designed by Ada Moreau. She was born in Lyon."),
        Passage("Bananas are rich in potassium. They grow in bunches.", id="b", metadata={"title": "Fruit"}),
    ]
    for n in (0, 1, 2, 4, 5):
        wanted = pipeline.shape(table[n]["query"], given)
        assert (found[n]["text"], found[n]["tokens"], found[n]["error"]) == (wanted.text, wanted.tokens, "")
        assert json.loads(found[n]["warnings"]) == list(wanted.warnings)
        spans = [(p.rank, p.id, [[s.start, s.end] for s in p.spans], False) for p in wanted.passages]
        assert [tuple(one.values()) for one in json.loads(found[n]["spans"])] == spans
        assert spans
