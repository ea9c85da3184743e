"""Text is what the file holds, character by character; what is no text, or cannot be told, is refused."""

import random

import pytest

from ctxshaper.data.decoding import NotTextError, decode

FRENCH = "Le café de la gare a été rénové en 1984 par un architecte célèbre. Les élèves y déjeunent à midi."
RUSSIAN = (
    "Мост был открыт в 1894 году. Он стоит на скале у самого моря. Летом сюда приезжают люди со всей страны, чтобы "
    "увидеть старый маяк и послушать, как шумят волны. Зимой здесь тихо, и только рыбаки выходят в море рано утром."
)
JAPANESE = (
    "橋は1894年に開通しました。とても長い橋です。夏には多くの人がこの町を訪れ、古い灯台を見て、波の音を聞きます。"
    "冬は静かで、漁師だけが朝早く海に出ます。カタカナもあります。"
)
MAYOR = "It cost £300 – “grand”, said the mayor."


@pytest.mark.parametrize(
    ("data", "text", "encoding"),
    [
        (b"a\r\nb\rc\n", "a\r\nb\rc\n", "utf-8"),
        ("a\u2028été 橋 😀".encode(), "a\u2028été 橋 😀", "utf-8"),
        (b"\xef\xbb\xbfa\xef\xbb\xbf", "a\ufeff", "utf-8"),
        (b"", "", "utf-8"),
        ("\ufeffété\r\n".encode("utf-16-le"), "été\r\n", "utf-16"),
        ("\ufeffété\r\n".encode("utf-16-be"), "été\r\n", "utf-16"),
        ("\ufeffété\r\n".encode("utf-32-le"), "été\r\n", "utf-32"),
        (b"\x1b[31mred\x1b[0m\x0c", "\x1b[31mred\x1b[0m\x0c", "utf-8"),
        (FRENCH.encode("latin-1"), FRENCH, "cp1252"),
        (MAYOR.encode("cp1252"), MAYOR, "cp1252"),
        (RUSSIAN.encode("cp1251"), RUSSIAN, "cp1251"),
        (JAPANESE.encode("cp932"), JAPANESE, "cp932"),
        (b"plain text, line after line.\n" * 40_000 + "été à la plage".encode("latin-1"), None, "cp1252"),
    ],
)
def test_the_file_as_it_is(data, text, encoding):
    found = decode(data, "f")
    assert found[1] == encoding
    if text is not None:
        assert found[0] == text


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"text\x00text", "NUL"),
        ("café".encode("latin-1") + b"\x00", "NUL"),
        ("no mark".encode("utf-16-le"), "NUL"),
        (b"%PDF-1.7\n", "PDF"),
        (b"\xff\xfea\xd8b", "begins as UTF-16"),
        (("Le café rénové. " * 20).encode()[:-1] + b"\xff", "damaged"),
        (("橋は長い" * 20).encode()[:-1], "damaged"),
        (b"\x01\x02\xe9t\xe9\x03", "f is not"),
        ("Мост.".encode("cp1251"), "cannot be told for sure"),
    ],
)
def test_no_text_is_refused(data, reason):
    with pytest.raises(NotTextError) as refused:
        decode(data, "f")
    assert str(refused.value).startswith("f ")
    assert reason in str(refused.value)


@pytest.mark.parametrize("size", [50, 1_000, 100_000])
def test_random_bytes_are_no_text(size):
    draw = random.Random(size)
    for _ in range(100 if size == 50 else 5):
        with pytest.raises(NotTextError):
            decode(draw.randbytes(size), "f")
