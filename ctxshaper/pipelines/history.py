"""The query of a turn, understood with its history: a question that leans on the one before it takes that one along."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ctxshaper.text.languages import guess

# Words that stand for what was named before. Those that mostly do something else ("that", "la", "le") are not here.
_PRONOUNS = {
    "en": "it its he him his she her hers they them their theirs this these those",
    "de": "er ihn ihm sein seine seinen seinem seiner sie ihr ihre ihren ihrem ihrer ihnen es dessen deren"
    " dies dieser diese dieses diesen diesem davon damit daran darin dafür dort",
    "fr": "il elle ils elles lui leur leurs son sa ses celui-ci celle-ci ceci cela ça y en cet cette ces",
    "es": "él ella ellos ellas ello su sus suyo suya este esta esto estos estas ese esa eso esos esas allí",
}
_STANDS_FOR = {language: frozenset(words.split()) for language, words in _PRONOUNS.items()}
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)?")
# A question of no more words says too little by itself ("And in winter?").
_SHORT = 3
# So many questions are taken along at most, and so many characters of each.
_MOST = 2
_CHARACTERS = 1_000


def understood(query: str, questions: Sequence[str]) -> str:
    """The query with the questions before it that it leans on: where it is very short, or a pronoun has no name in it.

    A rule over words in English, German, French and Spanish; no model. A pronoun behind a name ("Who is Ada, and where
    did she live?") does not count, but for German, where every noun looks like a name.

    Args:
        query: what the user asks now.
        questions: what the user said before, oldest first.

    Returns:
        The query; in front of it, where it leans on them, up to two earlier questions.
    """
    taken = [query]
    for before in list(reversed(questions))[:_MOST]:
        if not _leans(taken[0]):
            break
        taken.insert(0, before.strip()[-_CHARACTERS:])
    return " ".join(taken)


def _leans(query: str) -> bool:
    words = _WORD.findall(query[:_CHARACTERS])
    language = guess(query)
    stands_for = _STANDS_FOR.get(language, frozenset())
    for place, word in enumerate(words):
        if word.lower() in stands_for:
            return True
        if place and language != "de" and word[0].isupper() and word != "I":
            return False
    if language in ("zh", "ja"):  # no spaces: some two characters a word
        return len(query.strip()) <= 2 * _SHORT
    return len(words) <= _SHORT
