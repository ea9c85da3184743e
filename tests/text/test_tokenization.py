"""Tokens are counted as the generator counts them."""

import os
import subprocess
import sys

import pytest

from ctxshaper import InvalidInputError
from ctxshaper.models.loading import load_tokenizer
from ctxshaper.ranking.lexical import bm25, terms
from ctxshaper.text.tokenization import token_counter


class Encoding:
    """What tiktoken's encodings look like (its own files need a network)."""

    def encode_ordinary(self, text):
        return text.split()


def test_every_kind_of_tokenizer_counts(reader):
    tokenizer = load_tokenizer(reader.source)
    text = "How many tokens? <|im_end|> 3.5 km"
    expected = reader.count_tokens(text)
    assert token_counter(tokenizer)(text) == expected
    assert token_counter(len)(text) == len(text)
    assert token_counter(Encoding())("one two") == 2
    assert token_counter(tokenizer.backend_tokenizer)("one two") == 2


def test_a_real_tiktoken_encoding_counts():
    tiktoken = pytest.importorskip("tiktoken")
    encoding = tiktoken.Encoding(
        "bytes", pat_str=r"\S+|\s+", mergeable_ranks={bytes([i]): i for i in range(256)}, special_tokens={}
    )
    assert token_counter(encoding)("abc") == 3


def test_lone_surrogates_do_not_stop_the_count(reader):
    assert reader.count_tokens("a\ud800b") > 0


def test_something_else_is_refused():
    with pytest.raises(InvalidInputError, match="cannot count tokens with"):
        token_counter("gpt-4")


def test_bm25_ranks_the_sentence_that_shares_the_rare_word():
    texts = ["The tower is tall.", "The tower was designed by Eiffel.", "", "塔は高い。"]
    scores = bm25("Who designed the tower?", texts)
    assert scores.argmax() == 1
    assert bm25("塔", texts).argmax() == 3
    assert not bm25("zebra", texts).any()
    assert not bm25("???", texts).any()


def test_terms_of_scripts_without_spaces_are_characters():
    assert terms("Die Straße 東京") == ["die", "strasse", "東", "京"]


def test_bm25_starts_no_jax(tmp_path):
    # A process of its own: bm25s decides when it is imported.
    (tmp_path / "jax").mkdir()
    (tmp_path / "jax" / "__init__.py").write_text("started = True")
    (tmp_path / "jax" / "lax.py").write_text("def top_k(values, k): raise SystemExit('jax was run')")
    program = (
        "import sys; from ctxshaper.ranking.lexical import bm25; print(bm25('tower', ['A tower.', 'A hill.']).argmax())"
        "; assert 'jax' not in sys.modules; import jax; assert jax.started"
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    ran = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert ran.stdout.strip() == "0", ran.stderr
