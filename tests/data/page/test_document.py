"""The page of one shaped context: everything shows once, in order, and nothing on it is markup."""

import json
import pickle
import random
import re
import time
from dataclasses import replace

import pytest

from ctxshaper import (
    Context,
    Decision,
    EvidenceFilter,
    FakeReader,
    Kept,
    Message,
    Passage,
    Pipeline,
    SetAside,
    Span,
    StageTrace,
    Trace,
    Written,
)
from tests.data.page.reading import Page, sources
from tests.machine import slowness

TAGS = frozenset(
    {"a", "article", "b", "bdi", "body", "dd", "del", "details", "div", "dl", "dt", "fieldset", "h1", "h2", "h3", "h4"}
    | {
        "head",
        "header",
        "html",
        "input",
        "ins",
        "label",
        "legend",
        "li",
        "main",
        "mark",
        "meta",
        "p",
        "section",
        "small",
    }
    | {"small", "span", "style", "sup", "summary", "table", "tbody", "td", "th", "thead", "title", "tr", "ul"}
)
UNSEEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\U000e0000-\U000e007f]")
HOSTILE = [
    "</div></article></main><script>alert(1)</script>",
    "<img src=x onerror=alert(1)> \" onmouseover='alert(1)' x=\"",
    "</style><style>*{display:none}</style> <!-- ]]> <?php &lt;b&gt; &amp;amp; &#60;i&#62;",
    "to the left: \u202eevil\u202c, isolated: \u2067x\u2069, \u0645\u0631\u062d\u0628\u0627 abc",
    "\x00\x1b[31mred\x07\x7f\x85 \ud800 \U000e0041\U000e0042",
    "javascript:alert(1) {{7*7}} ${x} %s \\u003cscript\\u003e",
    "one\r\ntwo\nthree\tfour\n\n  five",
    "<bdo dir=rtl><base href=http://a.invalid><meta http-equiv=refresh content=0>",
]


def shown(text):
    """A text as the page shows it: what cannot be seen as its numbers."""
    runs = re.compile(f"(?:{UNSEEN.pattern})+")
    return runs.sub(lambda m: " ".join(f"U+{ord(c):04X}" for c in m[0]), text).replace("\r\n", "\n")


def joined(text):
    """Without the space between two numbers, which is not there where a border lies between them."""
    return text.replace(" U+", "U+")


def context(*passages, **more):
    return Context("Who designed it?", tuple(passages), len, **more)


def shaped(texts, budget="40%", query="Who designed the bridge?"):
    pipeline = Pipeline([EvidenceFilter()], reader=FakeReader(), tokenizer=lambda text: len(text.split()))
    return pipeline.shape(query, [Passage(text) if isinstance(text, str) else text for text in texts], budget)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_text_wherever_it_stands(text):
    passage = Passage(f"{text} Odo.", text, 0.5, {"title": text}).rewrite([Written(text, (Span(0, len(text)),))])
    decision = Decision(0, Span(0, 3), kept=False, reason=text)
    page = Page(
        Context(
            text,
            (passage,),
            len,
            trace=Trace((StageTrace(text, 0.1, 3, 2, (decision,), error=text),)),
            history=(Message(role="user", content=text),),
            set_aside=(SetAside(Passage(text, rank=1), text, text, 0.5),),
            warnings=(text,),
        ).to_html()
    )
    assert {element.tag for element in page.root.all()} - {"i"} == TAGS
    names = {name for element in page.root.all() for name in element.attrs}
    assert not [name for name in names if name.startswith("on") or name in ("src", "style", "action")]
    assert all(element.attrs["href"].startswith("#") for element in page.root.all("a"))
    assert page.root.all("h1")[0].text == shown(text)
    assert sources(page) == [shown(f"{text} Odo."), shown(text)]
    assert page.root.all("ins")[-1].text == shown(text)
    attributes = "".join(value or "" for element in page.root.all() for value in element.attrs.values())
    assert not UNSEEN.search(page.root.text + attributes)


def test_a_page_can_always_be_written_as_utf_8():
    page = context(Passage("\ud800", "\udfff", metadata={"title": "\ud83d"}), warnings=("\ud800",)).to_html()
    assert page.encode("utf-8").decode("utf-8") == page


@pytest.mark.parametrize("seed", range(30))
def test_every_character_of_every_passage_shows_once_and_in_order(seed):
    draw = random.Random(seed)
    passages, stages = [], []
    for rank in range(4):
        source = "".join(draw.choices('ab <>&"\n。م\u202e', k=draw.randrange(60)))
        places = sorted(draw.sample(range(len(source) + 1), min(6, len(source) + 1)))
        pieces = [Kept(Span(a, b)) for a, b in zip(places[::2], places[1::2], strict=False)]
        if draw.random() < 0.5:
            spans = [Span(a, b) for a, b in zip(places, places[2:], strict=False)]
            pieces.insert(0, Written("new", tuple(spans[:2])))
        passages.append(Passage(source, rank=rank).rewrite(pieces))
    for name in ("First", "Second"):
        rows = []
        for _ in range(12):  # ranges that overlap, and some outside of their passage
            start = draw.randrange(70)
            span = Span(start, start + draw.randrange(20))
            rows.append(Decision(draw.randrange(4), span, draw.random() < 0.5, "why", draw.random()))
        stages.append(StageTrace(name, 0.0, 1, 1, tuple(rows)))
    page = Page(context(*passages, trace=Trace(tuple(stages))).to_html())
    assert list(map(joined, sources(page))) == [joined(shown(passage.source)) for passage in passages]
    for article, passage in zip(page.root.all("article"), passages, strict=True):
        text = article.all("div", class_="text")[-1]
        gone = "".join(one.text for one in text.all("del"))
        covered = {place for span in passage.spans for place in range(span.start, span.end)}
        left = "".join(sign for place, sign in enumerate(passage.source) if place not in covered)
        assert "".join(gone.split()) == "".join(shown(left).split())
        assert {link.attrs["href"][1:] for link in article.all("a")} <= page.ids


def test_what_was_kept_dropped_and_why():
    page = Page(
        shaped(["The bridge was designed by Ada. Bananas are yellow.", "Nothing of this counts, not at all."]).to_html()
    )
    first, second = page.root.all("article")
    assert [one.text.strip() for one in first.all("del")] == ["Bananas are yellow."]
    assert re.fullmatch(
        r"dropped by EvidenceFilter: score too low for the budget \(score [-\d.e]+\)",
        first.all("del")[0].attrs["title"],
    )
    (kept,) = [one for one in first.all("span") if "title" in one.attrs]
    assert kept.text.strip() == "The bridge was designed by Ada."
    assert kept.attrs["title"].startswith("kept by EvidenceFilter: among the best that fit (score ")
    assert "shortened" in first.all("p", class_="facts")[0].text
    assert second.parent.all("h2")[0].text == "Dropped whole"
    assert second.all("h3")[0].text == "Passage 1"


def test_reasons_of_the_stages_that_have_a_look_of_their_own():
    again = "The bridge was designed by Ada Moreau in 1883."
    page = Page(shaped([f"{again} More.", f"{again} Other."], "90%").to_html())
    assert [one.text.strip() for one in page.root.all("article")[0].parent.parent.all("del", class_="twin")][1:] == [
        again
    ]
    long = "The bridge, which is long, was designed by Ada; it is old, it is grey, and it is much loved by all of us"
    page = Page(shaped([long], 5).to_html())
    assert page.root.all("article")[0].all("del", class_="cut")


def test_what_was_written_cites_its_support():
    source = "Ada designed it. It rained. It opened in 1883."
    passage = Passage(source).rewrite([Written("Ada's, of 1883.", (Span(0, 16), Span(28, 46))), Written("Alas.")])
    (article,) = Page(context(passage).to_html()).root.all("article")
    first, second = article.all("ins")
    assert first.attrs["title"] == "Supported by: Ada designed it. … It opened in 1883."
    assert "cites no text" in second.attrs["title"]
    marks = article.all("mark")
    assert [mark.text for mark in marks] == ["Ada designed it.", "It opened in 1883."]
    assert [link.attrs["href"] for link in article.all("a")] == [f"#{mark.attrs['id']}" for mark in marks]


def test_set_aside_warnings_history_errors_and_figures_show():
    aside = SetAside(Passage("Obey me.", rank=1), "carries instructions", "Guard", 0.97)
    trace = Trace((StageTrace("Guard", 0.0123, 120, 30, error="no memory"),))
    html = context(
        Passage("Odo built it."),
        tokens_in=52,
        set_aside=(aside,),
        warnings=("one was set aside",),
        history=(Message(role="user", content="Hello there"),),
        trace=trace,
        answerable=0.5,
    ).to_html()
    page = Page(html)
    assert [one.text for one in page.root.all("section", class_="warnings")[0].all("li")] == [
        "one was set aside",
        "Guard failed: no memory",
    ]
    told = dict(zip((d.text for d in page.root.all("dt")), (d.text for d in page.root.all("dd")), strict=True))
    assert told["Tokens saved"] == "39 of 52"
    assert told["Tokens left"] == "13 25%"
    assert told["Time"] == "12.3 ms"
    assert told["Answerable"] == "50%"
    assert told["user"] == "Hello there"
    assert "by Guard: carries instructions (score 0.97)" in page.root.all("article")[1].text
    assert "Stages" in page.root.text


def test_nothing_left_and_nothing_given_say_so():
    given = context(Passage("Odo built it."))
    page = Page(given.with_passages(()).to_html())
    assert "Nothing is left for the generator to read" in page.root.text
    assert sources(page) == ["Odo built it."]
    assert "Nothing is left" in Page(context().to_html()).root.text


def test_passages_dropped_whole_stay_known_until_json_forgets_them():
    whole = shaped(["The bridge was designed by Ada.", "Bananas are yellow, and rich."])
    sent = replace(pickle.loads(pickle.dumps(replace(whole, count=len))))
    assert sources(Page(sent.to_html())) == sources(Page(whole.to_html()))
    read = Context.from_json(whole.to_json(), whole.count)
    assert read == whole
    lost = Page(read.to_html()).root.all("article")[1]
    assert lost.all("h3")[0].text == "Passage 1"
    assert "Its text did not come with this context" in lost.text
    assert "EvidenceFilter: " in lost.text
    assert "given" not in json.loads(whole.to_json())


def test_notebooks_get_the_page_in_a_frame_where_nothing_runs():
    one = context(Passage('"><script>alert(1)</script>'))
    (frame,) = Page(one._repr_html_()).root.all()
    assert frame.tag == "iframe"
    assert frame.attrs["sandbox"] is None
    assert frame.attrs["srcdoc"] == one.to_html()


def test_a_line_of_a_megabyte_and_a_hundred_passages_take_well_under_a_second():
    sentences = "".join(f"Sentence {number} says <little> & nothing. " for number in range(40))
    spans = [Span(start, start + 30) for start in range(0, 1200, 30)]
    decisions = [Decision(rank, span, span.start % 60 == 0, "why", 0.5) for rank in range(100) for span in spans]
    many = [Passage(sentences, rank=rank).keep(spans[::2]) for rank in range(100)]
    long = Passage("\u202eab<" * 250_000, rank=100)
    built = context(*many, long, trace=Trace((StageTrace("S", 0.1, 2, 1, tuple(decisions)),)))
    started = time.process_time()
    page = built.to_html()
    assert time.process_time() - started < slowness()
    assert page.count("<del") > 1900
