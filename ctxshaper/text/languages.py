"""Guesses the language of a piece of text, cheaply and always the same way.

The guess only chooses a list of abbreviations and a rule for ordinals, so scripts and a few stop words are
enough; a statistical detector would cost a model, and be wrong on one-line passages all the same.
"""

import re

_WORD = re.compile(r"[^\W\d_]+")
_KANA = re.compile("[\u3041-\u30ff\uff66-\uff9f]")
_SCRIPTS = (
    ("zh", re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")),
    ("ar", re.compile("[\u0600-\u06ff\u0750-\u077f\ufb50-\ufdff\ufe70-\ufeff]")),
    ("hi", re.compile("[\u0900-\u097f]")),
    ("ru", re.compile("[\u0400-\u04ff]")),
)
_LATIN = re.compile("[A-Za-z\u00c0-\u024f]")

# Words that the other languages of the list do not share ("die", "in", "de" would mislead).
_STOP_WORDS = {
    "en": "the of and to is was for that with as it are his by from which this have be not he she they were",
    "de": "der das und ist im dem den mit von ein eine einer einem einen für auf nicht sich auch wurde war am"
    " bei nach wird sind zum zur oder als kostet zwischen seit vom sie",
    "fr": "le les des et est une dans du pour qui sur au avec il elle par pas plus ce cette sont nous vous aux",
    "es": "el los las y del una es por con para se al como su fue lo más este esta son pero ha él",
}
_LANGUAGE_OF = {word: language for language, words in _STOP_WORDS.items() for word in words.split()}
# Enough to see a language; more would only cost time.
_SAMPLE = 2_000


def guess(text: str, default: str = "en") -> str:
    """Returns the code of the language that most of the text's beginning is written in."""
    sample = text[:_SAMPLE]
    if not sample.isascii():
        latin = len(_LATIN.findall(sample))
        for language, script in _SCRIPTS:
            # A Chinese character says about as much as two or three Latin letters.
            if (found := len(script.findall(sample))) * 2 > latin:
                return "ja" if language == "zh" and _KANA.search(sample) else language
            if language == "zh" and not found and len(_KANA.findall(sample)) * 2 > latin:
                return "ja"
    votes: dict[str, int] = {}
    for word in _WORD.findall(sample.lower()):
        if vote := _LANGUAGE_OF.get(word):
            votes[vote] = votes.get(vote, 0) + 1
    # The first of equals in the table's order: a dict's order is fixed, so the guess is too.
    return max(_STOP_WORDS, key=lambda language: votes.get(language, 0)) if votes else default
