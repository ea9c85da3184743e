"""The beginning of an answer: by rule without a model, by a generator with a rule to fall back on."""

import pytest

from ctxshaper.stages.attention_rag.hint import GENERIC, by_rule, hint_prompt, read_hint

QUESTION = "Who designed the bridge?"
RULED = "The person who designed the bridge is"


@pytest.mark.parametrize(
    ("question", "hint"),
    [
        (QUESTION, RULED),
        ("What is the capital of France?", "The capital of France is"),
        ("what is Ada Moreau known for", "Ada Moreau is known for"),
        ("When was the bridge opened?", "The bridge was opened in"),
        ("Where was Ada Moreau born?", "Ada Moreau was born in"),
        ("When did the war end?", "It was in the year"),
        ("when do wood thrushes fly", "The time is"),
        ("Which band was formed first, A or B?", "The band that was formed first, A or B is"),
        ("In which year did the first tram run?", "The year is"),
        ("How many arches does it have?", "The number of arches is"),
        ("How old is the bridge?", "The age is"),
        ("Why did it fall?", "The reason is"),
        ("Who did Ada marry?", "The person is"),
        ("The bridge was designed by who?", "The bridge was designed by"),
        ("Ada, who built it, was born in what year?", "Ada, who built it, was born in"),
        ("The film sold more than how many copies?", "The film sold more than"),
        ("It stands in Lyon. What is it called?", "It is called"),
        ("Who designed the bridge??", RULED),
        ("Who designed the bridge? I forgot.", RULED),
    ],
)
def test_questions_by_rule(question, hint):
    assert by_rule(question).text == hint
    assert by_rule(question).method == "rule"


@pytest.mark.parametrize(
    "question",
    [
        "Is the Morrow taller than the Kettle?",
        "Are both magazines British?",
        "Sum up the minutes of the council.",
        "who",
        "How?",
        "?",
        "橋は誰が設計しましたか。",
        "Wer hat die Brücke entworfen?",
        "\ud800 {query} %s",
    ],
)
def test_everything_else_takes_the_generic_way(question):
    assert by_rule(question).text == GENERIC
    assert by_rule(question).method == "generic"


@pytest.mark.parametrize(
    "answer",
    [
        "The bridge was designed by",
        'Beginning: "The bridge was designed by ___"',
        "\n\n**The bridge was designed by**\nAda Moreau.",
        "The bridge was designed by...",
    ],
)
def test_a_generators_hint_is_taken_without_its_wrapping(answer):
    hint = read_hint(QUESTION, answer)
    assert (hint.text, hint.method, hint.problem) == ("The bridge was designed by", "generator", "")
    assert QUESTION in hint_prompt(QUESTION)


def test_a_generator_may_say_that_there_is_no_format():
    assert read_hint("Is it old?", "No format").method == "generic"


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("", "wrote nothing"),
        ("...\n\t\n", "wrote nothing"),
        ("bridge " * 150_000, "characters or more"),
        ("\n" * 1_000_000 + "The bridge was designed by", "wrote nothing"),
        ("橋は誰が", "shares no word"),
        ("Die Antwort lautet", "shares no word"),
        ("Who designed the bridge?", "a question"),
    ],
)
def test_what_a_generator_does_wrong_is_named_and_the_rule_stands_in(answer, problem):
    hint = read_hint(QUESTION, answer)
    assert (hint.text, hint.method) == (RULED, "rule")
    assert problem in hint.problem
