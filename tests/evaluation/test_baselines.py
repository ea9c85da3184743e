"""Every baseline runs in the same harness: within the budget, and what it says it kept is what stands in the text."""

import json
from pathlib import Path

import pytest

from ctxshaper import InvalidInputError, Pipeline
from ctxshaper.evaluation.baselines import BASELINES, baseline, installed_baselines, lingua
from ctxshaper.evaluation.metrics import held
from ctxshaper.evaluation.questions import made_up_questions

QUESTION = made_up_questions()[0]
GOLD = next(iter(QUESTION.gold))
# These do not look at the question, or find little with a model that was not trained for them.
BLIND = ("first-k", "random", "llmlingua", "gemfilter", "exit")
# These read everything with a whole language model: three passages are enough.
SLOW = ("gemfilter", "icr", "qrhead", "sentinel", "exit")


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_keeps_to_the_budget(name, reader, embedder):
    if name not in installed_baselines():
        pytest.skip(f"{name} is not installed" + (": make llmlingua" if "lingua" in name else ""))
    pipeline = Pipeline([baseline(name)], reader=reader, embedder=embedder)
    passages = QUESTION.passages[GOLD : GOLD + 3] if name in SLOW else QUESTION.passages
    shaped = pipeline.shape(QUESTION.text, passages, "40%")
    assert 0.25 * shaped.tokens_in < shaped.tokens <= 0.4 * shaped.tokens_in
    kept = held(shaped.passages)
    if name not in BLIND:
        assert kept[0 if name in SLOW else GOLD]
    for passage in shaped.passages:
        assert passage.source == passages[passage.rank].source
        for span in passage.spans:
            if "lingua" not in name:  # drops parts of words
                assert passage.source[span.start : span.end].strip() in shaped.text
    if "lingua" not in name:  # slow
        assert pipeline.shape(QUESTION.text, passages, "40%").text == shaped.text


@pytest.mark.parametrize("name", [n for n in BASELINES if "lingua" not in n])
def test_a_baseline_takes_nothing(name, reader, embedder):
    shaped = Pipeline([baseline(name)], reader=reader, embedder=embedder).shape("Who?", [], "40%")
    assert shaped.passages == ()


def test_the_best_stand_at_both_ends_once_reordered(reader, embedder):
    plain, reordered = (
        Pipeline([baseline(name)], reader=reader, embedder=embedder).shape(QUESTION.text, QUESTION.passages, "60%")
        for name in ("langchain-filter", "langchain-reorder")
    )
    ranked = [p.rank for p in plain.passages]
    assert len(ranked) > 3
    assert {reordered.passages[0].rank, reordered.passages[-1].rank} == set(ranked[:2])
    assert sorted(p.rank for p in reordered.passages) == sorted(ranked)


def test_an_unknown_baseline_is_named():
    with pytest.raises(InvalidInputError, match=r"no baseline 'x'.*bm25"):
        baseline("x")


def test_llmlinguas_model_is_written_once_by_whoever_is_first(reader, tmp_path, monkeypatch):
    class Written:
        def save_pretrained(self, folder):
            folder.mkdir(exist_ok=True)
            for name in ("config.json", "tokenizer_config.json"):
                (folder / name).write_text('{"clean_up_tokenization_spaces": true}', encoding="utf-8")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(lingua, "load_lm", lambda *_, **__: Written())
    monkeypatch.setattr(lingua, "load_tokenizer", lambda _: Written())
    folder = lingua._exported(reader)
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert not settings["clean_up_tokenization_spaces"]  # the text of " ," would come back as ","
    # Another process is there between the look and the last step.
    is_dir, looks = Path.is_dir, iter([False])
    monkeypatch.setattr(Path, "is_dir", lambda path: next(looks, True) if path == folder else is_dir(path))
    (folder / "theirs").touch()
    assert lingua._exported(reader) == folder
    assert (folder / "theirs").exists()
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
