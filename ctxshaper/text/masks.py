"""Hides from the sentence splitter what must not be cut, in a copy of the same length.

Hiding before splitting is safer than joining afterwards: the splitter never sees the full stop of "Dr." or
of a URL, so it cannot pair, count or quote around it either. All patterns run once over the whole text, are
bounded, and let no quantifier compete with its neighbour, so that hostile text costs no more than prose.
"""

import re

_SURROGATE = re.compile("[\ud800-\udfff]")
_LINE_END = re.compile(r"\r(\n)?")
_NOT_PLAIN_SPACE = re.compile(r"[^\S ]")

# --- markup -----------------------------------------------------------------------------------------------
_QUOTE_MARKER = re.compile(r"^[ \t]*>[> \t]*", re.M)
_LIST_MARKER = re.compile(r"[ \t]*(?:(?:[-+*•·▪‣◦–]|\d{1,9}[.)]|\(?[a-zA-Z0-9]\))[ \t]+){1,9}(?:\[[ xX]\][ \t])?")
# Possessive throughout, and no alternative begins like another, so that there is one way to read a text. An escaped
# bracket opens no link: what one attempt has stepped over, another then never reads to the end again.
_NESTED = r"\[(?:[^\[\]\\]|\\.){0,300}+\](?:\([^()\s]{0,500}+\))?+"
_LINK_TEXT = rf"!?(?<!\\)\[(?:[^\[\]\\]|\\.|{_NESTED}){{0,400}}+\]"
_LINK = re.compile(_LINK_TEXT + r"(?:\((?:[^()\\\n]|\\.|\([^()\n]{0,200}+\)){0,600}+\)|\[[^\[\]\n]{0,100}+\])")
_URL = re.compile(r"\b(?:[a-z][a-z0-9+.-]{1,15}://|www\.|mailto:)[^\s<>\"`、。，；：！？「」『』（）《》“”’»]+", re.I)
_URL_TAIL = ".,;:!?)]}'*_~"
_TAG = re.compile(r"</?[a-zA-Z][^<>\n]{0,500}>|<[a-zA-Z][a-zA-Z0-9+.-]{1,15}:[^<>\s]{0,500}>")
_TICKS = re.compile("`+")
# "End.[1] Next", "**End.** Next": the full stop is moved behind the mark, where the splitter sees it.
_MARK_AFTER_STOP = re.compile(r"([.!?…])((?:\[\^?[\w, -]{1,8}\]|[*_~]{1,3}+|[⁰¹²³⁴-⁹]{1,3}+){1,6}+)(?=\s|\Z)")

# --- abbreviations ----------------------------------------------------------------------------------------
# The lists are a union over languages: a passage mixes them more often than an abbreviation of one is a
# plain word of another. sentencex has lists of its own; these hold what it lacks or treats too boldly.

# A name or noun always follows.
_NEVER_LAST = """
Dr Dres Mr Mrs Ms Prof Mme Mlle MM Mgr Rev Lt Sgt Capt Col Cpl Cmdr Gen Adm Gov Sen Hon Hr Frl Sra Srta Dña
Ing bzw vgl sog bspw evtl ggf inkl exkl zzgl insb ca approx cf viz vs al resp lit núm pág págs Univ Dept
e.g i.e z.B d.h u.a o.g i.d.R z.T u.U m.E v.a s.o s.u p.ej p.ex c.-à-d
"""
# A number follows; otherwise they are plain words ("no.", "art.", "fig.").
_BEFORE_NUMBER = """
No Nos Nr Nrn Fig Figs Abb Tab Vol Vols Bd Bde pp Sp ch chap Kap Art art Sec Sect Eq Eqs Ref Refs Ch Pt Op
no cap vol fig figs nr ver ff fol col par Abs Ziff Rz Rn fl circa App Ex
"""
# They may end a sentence; the next word decides.
_MAYBE_LAST = """
Inc Ltd Co Corp Bros Jr Sr St Ave Blvd Rd Mt Ft Est Assn Intl U.S U.K U.N E.U D.C Ph.D M.D B.A M.A B.Sc M.Sc
a.m p.m A.M P.M etc usw Mio Mrd Mill EE.UU Cía Ud Uds Cie Ste Messrs jun sen geb gest Str aka
Jan Feb Mar Apr Aug Sept Sep Oct Nov Dec Okt Dez
"""
_UNITS = "ft in mi lb lbs oz yd sq cu min sec hr hrs Std Min Sek kg km cm mm Stk Tsd"

# Words that open a sentence far more often than they follow a name.
_OPENERS = """
The A An It He She They We You I In On At As But And Or So If When While This That These Those There Their His
Her Its Our My After Before Since During However For From With By To Then Today Now What Why How Who Where Yes
No Not Also Although Because Both Each Some Many Most Several One Two Under Here
Der Die Das Ein Eine Er Sie Es Wir Ihr Im Am Auf Aus Bei Mit Nach Seit Von Zu Dann Dort Heute Auch Aber Und
Le La Les Un Une Il Elle Ils Elles Nous Vous Ce Cette Ces Dans Pour Puis Mais Et Son Sa Ses
El Los Las Una Ella Ellos Su Sus En Por Para Con Pero Y Este Esta Esto Hoy Luego
"""


def _any_of(words: str) -> str:
    # "z.B" also stands for "z. B".
    longest_first = sorted(words.split(), key=len, reverse=True)
    return "(?:" + "|".join(re.escape(word).replace(r"\.", r"\. ?") for word in longest_first) + ")"


_OPENER = rf"(?= +[\"“„«(']?{_any_of(_OPENERS)}\b)"
_LETTER = r"(?<![\w.])[^\W\d_]"
# Each pattern matches up to and with the full stop that ends no sentence.
_STOPS = re.compile(
    "|".join(
        (
            rf"(?<!\w){_any_of(_NEVER_LAST)}\.(?=\s)",
            rf"(?<!\w){_any_of(_BEFORE_NUMBER)}\.(?=\s+[\dIVXL§])",
            rf"(?<!\w){_any_of(_MAYBE_LAST)}\.(?=\s+[\"“(]?\w)(?!{_OPENER})",
            rf"(?<=[\d ]){_any_of(_UNITS)}\.(?=\s+[a-zäöüß\d])",
            # Initials and other single letters, of any script: "J. R. R. Tolkien", "د. أحمد".
            rf"{_LETTER}\.(?=\s+[\"“(]?\w)(?!{_OPENER})",
            # Acronyms: "a B.Sc. Degree".
            rf"(?<![\w.])(?:[^\W\d_]{{1,3}}\.){{2,5}}(?=\s+\w)(?!{_OPENER})",
            # Devanagari shortens to one or two syllables: "डॉ. शर्मा".
            "(?<![\u0900-\u097f])[\u0900-\u097f]{1,4}\\.(?=\\s)",
            # The parts of a date or a broken decimal.
            r"(?<![\w.,])\d{1,2}\.(?=\s\d)",
        )
    )
)
# Languages that write ordinals with a full stop. Years have more digits, so two are the limit.
ORDINAL_LANGUAGES = frozenset(
    (
        "de",
        "da",
        "no",
        "nb",
        "nn",
        "fi",
        "cs",
        "sk",
        "pl",
        "hu",
        "et",
        "lv",
        "sl",
        "hr",
        "sr",
        "bs",
        "is",
        "tr",
        "lb",
    )
)
# "Nr. 5." is no ordinal; its abbreviation is hidden as "Nrx" by then.
_ORDINAL = re.compile(r"(?<!x )(?<![\w.,])\d{1,2}\.(?=\s+\w)")
# The number of an inline enumeration; sought when abbreviations are hidden, or "No. 5." would be one.
_ENUMERATED = re.compile(r"(?<=[.!?:;] )\d{1,3}\.(?=\s)")
_CJK_THEN_DIGIT = re.compile("(?<=[。！？])\\d")


def clean_of(text: str) -> str:
    """Returns a copy of the same length with newline as its only line end and without surrogates.

    Compiled libraries take UTF-8 and refuse lone surrogates, which Python strings may hold.
    """
    if not text.isascii():
        text = _SURROGATE.sub("\ufffd", text)
    return _LINE_END.sub(lambda match: " \n" if match[1] else "\n", text) if "\r" in text else text


def masked_of(clean: str) -> str:
    """Returns a copy of the same length in which no full stop stands for anything but a sentence's end."""
    masked = clean
    if ">" in masked:
        masked = _QUOTE_MARKER.sub(_spaces, masked)
        masked = _TAG.sub(_hidden, masked)
    # Before links: "[2][3]" behind a full stop are two notes, not a link by reference.
    masked = _MARK_AFTER_STOP.sub(lambda match: "x" * len(match[2]) + match[1], masked)
    if "](" in masked or "][" in masked:
        masked = _LINK.sub(_hidden, masked)
    masked = _URL.sub(_hidden_url, masked)
    masked = _NOT_PLAIN_SPACE.sub(" ", masked)
    masked = _ENUMERATED.sub(_without_stops, _STOPS.sub(_without_stops, masked))
    return _CJK_THEN_DIGIT.sub("字", masked)


def without_marker(masked: str) -> str:
    """Hides the marker of a block that is a list item."""
    marker = _LIST_MARKER.match(masked)
    return " " * marker.end() + masked[marker.end() :] if marker else masked


def mask_block(masked: str, language: str) -> str:
    """Hides what only makes sense inside one block, which has no marker any more: inline code, ordinals."""
    if "`" in masked:
        masked = _without_code(masked)
    if language in ORDINAL_LANGUAGES:
        masked = _ORDINAL.sub(_without_stops, masked)
    return masked


def _spaces(match: re.Match[str]) -> str:
    return " " * len(match[0])


def _hidden(match: re.Match[str]) -> str:
    return "X" * len(match[0])


def _hidden_url(match: re.Match[str]) -> str:
    address = match[0].rstrip(_URL_TAIL)
    return "x" * len(address) + match[0][len(address) :]


def _without_stops(match: re.Match[str]) -> str:
    return match[0].replace(".", "x")


def _without_code(masked: str) -> str:
    """Hides inline code: from one run of backticks to the next run of the same length."""
    runs = list(_TICKS.finditer(masked))
    following: dict[int, int] = {}
    closing = [0] * len(runs)
    for number in range(len(runs) - 1, -1, -1):
        length = len(runs[number][0])
        closing[number] = following.get(length, 0)
        following[length] = number
    parts: list[str] = []
    done = number = 0
    while number < len(runs):
        if closing[number]:
            end = runs[closing[number]].end()
            parts += (masked[done : runs[number].start()], "X" * (end - runs[number].start()))
            done, number = end, closing[number]
        number += 1
    return "".join((*parts, masked[done:]))
