"""The picture of traces: well-formed, in place, and safe whatever a span is called."""

from xml.etree import ElementTree

from benchmarks.waterfall import Bar, Panel, draw

SVG = "{http://www.w3.org/2000/svg}"


def drawn(*bars):
    text = draw([Panel("a <title> & more", bars), Panel("empty", ())], "of 'one' request")
    return text, ElementTree.fromstring(text)  # noqa: S314  # this project's own text


def test_bars_stand_at_their_times():
    _, root = drawn(Bar("ctxshaper.shape", 0, 0.0, 100.0), Bar("ctxshaper.prefill", 1, 25.0, 75.0, "20 passages"))
    whole, part = (rect for rect in root.iter(f"{SVG}rect") if rect.get("class") != "page")
    assert float(part.get("width")) * 2 == float(whole.get("width"))
    assert float(part.get("x")) - float(whole.get("x")) == float(whole.get("width")) / 4
    assert (whole.get("class"), part.get("class")) == ("flow", "read")
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert {"shape", "prefill", "20 passages", "50.0 ms", "100 ms"} <= set(texts)


def test_what_a_span_says_is_no_markup():
    evil = '<script>alert("1")</script> & "quoted"'
    text, root = drawn(Bar(evil, 0, 0.0, 1.0, evil))
    assert "<script" not in text
    assert [node.text for node in root.iter(f"{SVG}text")].count(evil) == 2
    assert "prefers-color-scheme: dark" in text


def test_an_instant_is_still_seen():
    _, root = drawn(Bar("ctxshaper.shape", 0, 0.0, 0.0), Bar("ctxshaper.store.get", 1, 0.0, 0.0))
    assert all(float(rect.get("width")) > 1 for rect in root.iter(f"{SVG}rect"))
