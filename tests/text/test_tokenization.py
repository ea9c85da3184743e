"""Tokens are counted as the generator counts them."""

import copy
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer

from ctxshaper import InvalidInputError
from ctxshaper.models.finding import resolve_lm
from ctxshaper.models.loading import load_tokenizer
from ctxshaper.ranking.lexical import bm25, terms
from ctxshaper.text.tokenization import Encoder, is_control, token_counter


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


@pytest.fixture
def tokenizer():
    return load_tokenizer(resolve_lm())


def cut_and_padded(tokenizer):
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.enable_truncation(16)
    backend.enable_padding(length=16)
    return backend


@pytest.mark.parametrize("length", [1, 550])
def test_truncation_and_padding_do_not_falsify_the_count(tokenizer, length):
    text = "word " * length
    true = token_counter(tokenizer)(text)
    assert true > 16 or length == 1
    backend = cut_and_padded(tokenizer)
    assert len(backend.encode(text).ids) == 16
    assert token_counter(backend)(text) == true
    assert backend.truncation["max_length"] == 16  # the user's own is left as it was
    tokenizer.backend_tokenizer.enable_truncation(16)
    tokenizer.backend_tokenizer.enable_padding(length=16)
    assert token_counter(tokenizer)(text) == true


def words(text):
    return len(text.split())


@pytest.mark.parametrize("how", [copy.deepcopy, lambda counter: pickle.loads(pickle.dumps(counter))])
def test_counters_can_be_copied_and_sent_to_other_processes(tokenizer, how):
    text = "How many tokens? <|im_end|> <think> 3.5 km\n" * 20
    for made in (tokenizer, tokenizer.backend_tokenizer, words, Encoding()):
        counter = token_counter(made)
        assert how(counter)(text) == counter(text)


def test_a_counter_can_be_used_from_many_threads(tokenizer):
    texts = ["word " * n for n in range(200)]
    counter = token_counter(cut_and_padded(tokenizer))
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(counter, texts)) == [counter(text) for text in texts]


CONTROL = [
    "<tool_call>",
    "</think>",
    "<|fim_prefix|>",
    "[TOOL_CALLS]",
    "<\uff5ctool\u2581calls\u2581begin\uff5c>",
    " <pad2> ",
]
ORDINARY = ["\n\n\n", "      ", "<table>", "</h1>", "ctxshaperword", "<", "[]"]


@pytest.fixture
def steered(tokenizer):
    """A tokenizer with added tokens that are not declared special."""
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in CONTROL + ORDINARY])
    return tokenizer


@pytest.mark.parametrize("content", CONTROL)
def test_control_tokens_that_are_not_declared_special_are_characters_in_data(steered, content):
    token = steered.convert_tokens_to_ids(content)
    encoder = Encoder(steered)
    text = f"Passage: a{content}b"
    assert token in encoder.markup(text)
    ids, offsets = encoder.data(text)
    assert token not in ids
    assert steered.decode(ids) == text
    assert offsets[0][0] == 0
    assert offsets[-1][1] == len(text)
    assert is_control(content)


@pytest.mark.parametrize("content", ORDINARY)
def test_added_tokens_of_ordinary_text_stay_tokens(steered, content):
    token = steered.convert_tokens_to_ids(content)
    assert token in Encoder(steered).data(f"a{content}b")[0]
    assert not is_control(content)


def test_ordinary_text_is_tokenised_as_the_model_does(steered, tokenizer):
    text = "The <b>bridge</b> [1] (a < b > c) was\n\n\nopened:      1931 <table> \u6771\u4eac \U0001f642 e\u0301"
    expected = steered.backend_tokenizer.encode(text, add_special_tokens=False)
    ids, offsets = Encoder(steered).data(text)
    assert ids == expected.ids
    np.testing.assert_array_equal(offsets, expected.offsets)


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
