"""What of a question carries content, in several languages."""

import pytest

from ctxshaper.reading.function_words import content_ranges


@pytest.mark.parametrize(
    ("question", "content"),
    [
        ("Who designed the Orvany Bridge?", ["designed", "Orvany", "Bridge"]),
        ("Wer hat die Orvaner Brücke entworfen?", ["Orvaner", "Brücke", "entworfen"]),
        ("Qui a conçu la tour de Ferrow ?", ["conçu", "tour", "Ferrow"]),
        ("¿En qué año abrió la torre de Ferrow?", ["año", "abrió", "torre", "Ferrow"]),
        ("奥瓦尼大桥是谁设计的？", ["奥瓦尼大桥", "设计"]),
        # A word of one language is not looked up in another's list.
        ("How did the painter of Die Brücke die?", ["painter", "Die", "Brücke", "die"]),
        # What no list holds stays.
        ("Kto zbudował wieżę?", ["Kto", "zbudował", "wieżę"]),
        ("?!", []),
    ],
)
def test_words_that_carry_grammar_are_left_out_in_the_language_of_the_question(question, content):
    assert [question[start:end] for start, end in content_ranges(question)] == content
