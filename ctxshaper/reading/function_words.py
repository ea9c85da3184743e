"""Words of a question that carry grammar and no content, in a few languages."""

from __future__ import annotations

import re

_WORD = re.compile(r"\w+")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Lists of this project's own: articles, pronouns, prepositions, auxiliaries, and the words that ask.
_BY_LANGUAGE = {
    "en": _words(
        "a about after again all also although am an and another any are as at be because been before being between "
        "both but by can could d did do does doing during each either every for from further had has have having he "
        "her here hers him his how however i if in into is it its itself just ll m may me might more most much must my "
        "no nor not of off on once one only or other our out over own re s same shall she should since so some such t "
        "than that the their them then there these they this those through to too under until up upon us ve very was "
        "we were what when where whether which while who whom whose why will with within without would you your"
    ),
    "de": _words(
        "aber alle als also am an auch auf aus bei beim bin bis da dann das dass dein dem den denn der des die dies "
        "diese diesem diesen dieser dieses doch du durch ein eine einem einen einer eines er es für gegen haben hat "
        "hatte hatten ich ihm ihn ihr ihre ihrem ihren ihrer im in ins ist ja jede jeder jedes kann kein keine können "
        "mein mit muss nach nicht noch nur ob oder ohne sehr sein seine seinem seinen seiner sich sie sind so soll "
        "sollte um und uns unter vom von vor wann war waren warum was welche welchem welchen welcher welches wem wen "
        "wenn wer werden wessen wie wieso will wir wird wo woher wohin womit worden woraus wozu wurde wurden zu zum "
        "zur über"
    ),
    "fr": _words(
        "a ai au aux avec avait ce cela celle celles celui ces cet cette ceux combien comme comment d dans de des dont "
        "du elle elles en est et eu fait fut il ils j je l la laquelle le lequel les leur leurs lui m ma mais me mes "
        "moi mon même n ne ni nos notre nous on ont ou où par pas plus pour pourquoi qu quand que quel quelle quelles "
        "quels qui quoi s sa sans se ses si son sont sous sur t ta te tes ton tu un une vos votre vous y à était "
        "étaient été être"
    ),
    "es": _words(
        "a al algo como con cual cuál cuales cuáles cuando cuándo cuanto cuánto cuántos cuántas de del desde donde "
        "dónde durante e el ella ellas ellos en entre era eran es esa ese eso esta este esto está están fue fueron ha "
        "había han hasta hay la las le les lo los me mi muy más ni no nos o para pero por porque qué que quien quién "
        "quiénes se sea según ser si sin sobre son su sus también te tiene tu un una unas uno unos y ya"
    ),
    "it": _words(
        "a ad ai al alla alle anche che chi ci come con cosa cui da dal dalla dei del della delle di dove e ed era è "
        "erano fu gli ha hanno i il in io la le lei li lo loro lui ma mi ne nei nel nella non o per perché più qual "
        "quale quali quando quanto quanti se si sono stata stato su sua sue suo sul sulla suoi ti tra un una uno"
    ),
    "pt": _words(
        "a ao aos as com como da das de do dos e ela elas ele eles em entre era eram está foi foram há isso já lhe "
        "mais mas me na nas no nos não o onde os ou para pela pelo por porque qual quais quando quanto quantos que "
        "quem se sem ser seu seus sua suas são também te tem um uma"
    ),
    "nl": _words(
        "aan al als bij dan dat de den der deze die dit door een en er had hebben heeft het hij hoe hoeveel hun ik in "
        "is ja je kan maar me met mij mijn na naar niet nog of om onder ook op over te tot uit van veel voor waar "
        "waarom wanneer waren was wat we welke werd werden wie wij worden wordt ze zich zij zijn zo zou"
    ),
}
# Chinese and Japanese write without spaces: what carries grammar is found inside a run of letters.
_WITHIN = re.compile(
    "什么时候|什么|为什么|怎么样|怎么|怎样|哪里|哪儿|哪些|哪个|哪|谁|几|多少|是不是|是|的|了|吗|呢|在|从|把|被|和|与|或|而|也|"
    "ですか|ますか|でした|です|ます|いつ|どこ|だれ|なに|なぜ|どの|どう|した|して|から|まで|の|は|が|を|に|で|と|へ|も|か"
)


def content_ranges(text: str) -> list[tuple[int, int]]:
    """Where the words stand that carry content: all words but the function words of the text's language.

    The language is the one whose list holds most of the text's words ("die" is an article in a German question and a
    verb in an English one); a language without a list keeps the words that no list holds.

    Args:
        text: a question.

    Returns:
        Ranges of characters, half-open, in order.
    """
    words = [(match.start(), match.end(), match[0].lower()) for match in _WORD.finditer(text)]
    known = max(_BY_LANGUAGE.values(), key=lambda some: sum(word in some for _, _, word in words))
    ranges = []
    for start, end, word in words:
        if word in known:
            continue
        at = start
        for within in _WITHIN.finditer(text, start, end):
            if within.start() > at:
                ranges.append((at, within.start()))
            at = within.end()
        if end > at:
            ranges.append((at, end))
    return ranges
