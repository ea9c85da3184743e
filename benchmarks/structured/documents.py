"""Documents of seven kinds with a question each: found in Python's own library, or made from a seed.

A made document is many records of one shape, all plausible, of which one holds what the question asks for in other
words. Found are Python modules of the standard library, and the pages that pydoc makes of them.
"""

from __future__ import annotations

import csv
import importlib
import inspect
import io
import json
import pydoc
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Entry:
    """One document, a question about it, and what has to be left of it.

    Attributes:
        kind: of the document.
        text: the document.
        question: what is asked.
        evidence: texts of the document that have to be kept, each whole.
    """

    kind: str
    text: str
    question: str
    evidence: tuple[str, ...]


CITIES = [
    "Lyon",
    "Porto",
    "Bergen",
    "Graz",
    "Turku",
    "Ghent",
    "Split",
    "Kaunas",
    "Brno",
    "Malmo",
    "Derry",
    "Pisa",
    "Cadiz",
    "Aarhus",
    "Tartu",
    "Basel",
]
PEOPLE = [
    "Ada Moreau",
    "Ben Okafor",
    "Li Wei",
    "Sara Lund",
    "Omar Haddad",
    "Ines Costa",
    "Jan Novak",
    "Mia Berg",
    "Tom Reyes",
    "Yuki Sato",
]
PARTS = [
    "pump",
    "valve",
    "rotor",
    "gasket",
    "sensor",
    "relay",
    "hinge",
    "bracket",
    "filter",
    "nozzle",
    "bearing",
    "coupling",
]


def entries() -> list[Entry]:
    """All of them, each kind in turn; the same in every run of one version of Python."""
    makers: tuple[Callable[[], Iterator[Entry]], ...] = (logs, jsons, pages, tables, guides, sources, mails)
    found = [entry for make in makers for entry in make()]
    for entry in found:
        for piece in entry.evidence:
            assert piece in entry.text, f"{entry.kind}: {piece!r} does not stand in the document of {entry.question!r}"
    return found


def logs() -> Iterator[Entry]:
    """Services' logs in four formats, with stack traces."""
    planted = [
        ("payment 4711 refused: card expired", "Why was the customer's card not accepted for payment 4711?"),
        ("disk /dev/sdb1 reached 97 percent", "Which disk is almost full?"),
        ("user okafor locked after 5 failed logins", "Whose account was blocked, and why?"),
        ("certificate of mail.example.org expires in 3 days", "Which certificate has to be renewed soon?"),
        ("backup of warehouse finished, 412 GB in 38 min", "How large was the backup of the warehouse?"),
        ("worker 7 killed: out of memory at 15.8 GB", "What happened to worker 7?"),
        ("schema migrated from version 41 to 42", "To which version was the database schema brought?"),
        ("queue invoices paused by operator lund", "Who stopped the invoice queue?"),
        ("retry budget of upstream geocoder exhausted", "Which upstream failed so often that no retries are left?"),
        ("leader changed from node-2 to node-5", "Which node leads the cluster now?"),
    ]
    stamps = [
        lambda d, n, level: (
            f"2026-03-{1 + n // 60:02d} 10:{n % 60:02d}:{d.randrange(60):02d},{d.randrange(999):03d} {level} "
        ),
        lambda d, n, level: f"[2026-03-01T10:{n % 60:02d}:{d.randrange(60):02d}Z] [{level.lower()}] ",
        lambda d, n, level: (
            f"Mar  1 10:{n % 60:02d}:{d.randrange(60):02d} host7 app[{d.randrange(900, 999)}]: {level} "
        ),
        lambda d, n, level: f"{level}: {1772359200 + 7 * n + d.randrange(7)} ",
    ]
    for number, (fact, question) in enumerate(planted):
        draw = random.Random(number)
        stamp = stamps[number % len(stamps)]
        lines, at = [], draw.randrange(20, 110)
        for n in range(130):
            if n == at:
                lines.append(stamp(draw, n, "WARN") + fact)
                continue
            city, person, part = draw.choice(CITIES), draw.choice(PEOPLE).split()[1].lower(), draw.choice(PARTS)
            said = draw.choice([
                f"request {draw.randrange(9999)} from {city.lower()} served in {draw.randrange(2, 900)} ms",
                f"user {person} logged in from {city.lower()}",
                f"cache miss for {part}-{draw.randrange(99)}, loaded in {draw.randrange(9, 99)} ms",
                f"job {part}-export finished with {draw.randrange(10, 5000)} rows",
                f"heartbeat of node-{draw.randrange(1, 9)} received",
            ])  # fmt: skip
            if draw.random() < 0.04:
                said += f'\nTraceback (most recent call last):\n  File "app/{part}.py", line {n}, in run\n    load({n})'
                said += f"\nTimeoutError: {city.lower()} did not answer"
            lines.append(stamp(draw, n, draw.choice(["INFO", "INFO", "DEBUG", "ERROR"])) + said)
        yield Entry("logs", "\n".join(lines) + "\n", question, (fact,))


def jsons() -> Iterator[Entry]:
    """Inventories, settings and answers of an API: nested, indented or in one line, or a value in each line."""
    for number in range(10):
        draw = random.Random(100 + number)
        wanted = draw.randrange(5, 35)
        records: list[dict[str, Any]] = [
            {
                "id": f"{draw.choice(PARTS)[:3].upper()}-{1000 + 7 * n}",
                "kind": draw.choice(PARTS),
                "maker": {"name": draw.choice(PEOPLE), "city": draw.choice(CITIES)},
                "stock": draw.randrange(500),
                "price": {"amount": draw.randrange(100, 99999) / 100, "currency": "EUR"},
                "tags": draw.sample(["new", "heavy", "fragile", "spare", "tested", "blue"], 3),
            }
            for n in range(40)
        ]
        record = records[wanted]
        if number % 5 == 0:
            text = json.dumps({"inventory": {"updated": "2026-03-01", "items": records}}, indent=2)
            question, evidence = f"How many pieces of {record['id']} are in stock?", f'"stock": {record["stock"]}'
        elif number % 5 == 1:
            text = json.dumps({"items": records})
            question, evidence = f"What does {record['id']} cost?", f'"amount": {record["price"]["amount"]}'
        elif number % 5 == 2:
            text = "\n".join(map(json.dumps, records))
            question, evidence = f"Who makes {record['id']}?", f'"name": "{record["maker"]["name"]}"'
        elif number % 5 == 3:
            services = {
                f"{part}-service": {
                    "image": f"registry.example/{part}:{draw.randrange(9)}.{draw.randrange(30)}",
                    "port": draw.randrange(1000, 9999),
                    "limits": {"memory": f"{draw.randrange(1, 64)}Gi", "cpu": draw.randrange(1, 16)},
                    "environment": {"REGION": draw.choice(CITIES).lower(), "TIMEOUT_S": str(draw.randrange(5, 90))},
                    "probes": [{"path": f"/{name}", "every_s": draw.randrange(5, 60)} for name in ("live", "ready")],
                }
                for part in PARTS
            }
            part = draw.choice(PARTS)
            text = json.dumps({"version": 3, "services": services}, indent=4)
            question = f"On which port does the {part} service listen?"
            evidence = f'"port": {services[f"{part}-service"]["port"]}'
        else:
            people = [
                {
                    "id": n,
                    "name": f"{draw.choice(PEOPLE).split()[0]} {draw.choice(CITIES)}son{n}",
                    "bio": " ".join(
                        f"Worked {draw.randrange(2, 9)} years on a {draw.choice(PARTS)} plant in {draw.choice(CITIES)}."
                        for _ in range(6)
                    )
                    + f" Speaks {draw.choice(['Basque', 'Welsh', 'Frisian', 'Sorbian'])} and plays chess number {n}.",
                    "email": f"p{n}@example.org",
                }
                for n in range(14)
            ]
            person = people[draw.randrange(14)]
            text = json.dumps(people, indent=1)
            question = f"Which language does {person['name']} speak?"
            evidence = str(person["bio"])[str(person["bio"]).index("Speaks ") :]
        yield Entry("JSON", text, question, (evidence,))


def pages() -> Iterator[Entry]:
    """Pages that pydoc makes of Python modules, and made ones with scripts, navigation, lists and tables."""
    asked = [
        ("textwrap", "Which function removes common leading whitespace from every line?", "dedent"),
        ("shlex", "How is a string escaped for the shell?", "quote"),
        ("fnmatch", "How is it tested whether a name matches a pattern, with its case?", "fnmatchcase"),
        ("heapq", "How are several sorted inputs merged into one?", "merge"),
        ("sched", "How is an event removed from the queue?", "cancel"),
    ]
    for name, question, evidence in asked:
        yield Entry(
            "HTML",
            pydoc.HTMLDoc().docmodule(importlib.import_module(name)),
            question,
            (f"<strong>{evidence}</strong></a>(",),
        )
    for number in range(6):
        draw = random.Random(200 + number)
        rows = [(f"{draw.choice(PARTS)} {n}", draw.choice(CITIES), str(draw.randrange(1800, 1999))) for n in range(16)]
        people = [(name, draw.choice(CITIES), draw.randrange(1950, 1999)) for name in PEOPLE]
        wanted, person = draw.choice(rows), draw.choice(people)
        table = "".join(f"<tr><td>{a}</td><td>{b}</td><td>{c}</td></tr>\n" for a, b, c in rows)
        staff = "".join(
            f'<div class="card"><h3>{name}</h3><p>{name.split()[0]} joined the museum in <b>{year}</b> and lives in '
            f'<a href="/city/{city}">{city}</a>.</p></div>\n'
            for name, city, year in people
        )
        links = "".join(f'<li><a href="/{part}?a=1&amp;b=2">{part}</a>' for part in PARTS)
        text = (
            "<!DOCTYPE html>\n<html><head><title>Museum of machines</title>\n<style>body { color: #333 } "
            ".card > p { margin: 0 }</style>\n<script>if (a < b && c > d) { document.write('<p>no</p>'); }</script>"
            f"</head>\n<body><nav><ul>{links}</ul></nav>\n<main><h1>Museum of machines</h1>\n<p>Open from Tuesday to "
            f"Sunday; closed in {draw.choice(['January', 'February', 'August'])}.</p>\n<h2>Collection</h2>\n<table>\n"
            f"<thead><tr><th>Machine</th><th>Place</th><th>Year</th></tr></thead>\n<tbody>{table}</tbody></table>\n"
            f"<h2>People</h2>\n{staff}<!-- tracking --></main>\n<footer><p>&copy; 2026</p></footer></body></html>\n"
        )
        if number % 2:
            yield Entry("HTML", text, f"When did {person[0]} join the museum?", (str(person[2]), person[0].split()[0]))
        else:
            yield Entry("HTML", text, f"Where was the {wanted[0]} built?", (f"<td>{wanted[0]}</td><td>{wanted[1]}",))


def tables() -> Iterator[Entry]:
    """CSV and TSV with quoted fields."""
    for number in range(10):
        draw = random.Random(300 + number)
        out = io.StringIO()
        writer = csv.writer(out, delimiter="\t" if number % 4 == 3 else ",", lineterminator="\n")
        writer.writerow(["order", "customer", "city", "part", "pieces", "remark"])
        rows = []
        for n in range(90):
            remark = draw.choice(["", "call first", "urgent, by air", 'leave at "gate 2"', "no invoice"])
            row = [f"A{5000 + 13 * n}", draw.choice(PEOPLE), draw.choice(CITIES), draw.choice(PARTS),
                   str(draw.randrange(1, 900)), remark]  # fmt: skip
            rows.append(row)
            writer.writerow(row)
        wanted = rows[draw.randrange(10, 85)]
        column, what = draw.choice([(2, "To which city does order {} go?"), (3, "Which part was ordered under {}?"),
                                    (4, "How many pieces does order {} ask for?")])  # fmt: skip
        delimiter = "\t" if number % 4 == 3 else ","
        yield Entry("CSV", out.getvalue(), what.format(wanted[0]), (delimiter.join(wanted[: column + 1]),))


def guides() -> Iterator[Entry]:
    """Markdown: headings, lists, tables and fenced code."""
    for number in range(10):
        draw = random.Random(400 + number)
        parts = draw.sample(PARTS, 8)
        ports = {part: draw.randrange(1024, 9999) for part in parts}
        owners = {part: draw.choice(PEOPLE) for part in parts}
        months = {part: draw.choice(["March", "June", "October", "December"]) for part in parts}
        table = "".join(f"| {part} | {ports[part]} | {owners[part]} |\n" for part in parts)
        sections = "".join(
            f"## The {part} module\n\nIt was rewritten in {months[part]} by {owners[part]}. Before, it took "
            f"{draw.randrange(2, 90)} seconds to start.\n\nTo start it:\n\n```bash\n"
            f"export {part.upper()}_HOME=/opt/{part}\n\n{part}ctl start --port {ports[part]} "
            f"--workers {draw.randrange(2, 64)}\n```\n\nIt needs:\n\n"
            f"- {draw.randrange(1, 32)} GB of memory\n- a licence from {draw.choice(CITIES)}\n\n"
            for part in parts
        )
        text = (
            f"# Plant {number}\n\nThe plant in {draw.choice(CITIES)} runs these modules.\n\n| module | port | owner |\n"
            f"|---|---|---|\n{table}\n{sections}"
        )
        part = draw.choice(parts)
        asked = [
            (f"Who owns the {part} module?", f"| {part} | {ports[part]} | {owners[part]} |"),
            (f"When was the {part} module rewritten?", f"It was rewritten in {months[part]} by {owners[part]}."),
            (f"With which command is {part} started?", f"{part}ctl start --port {ports[part]}"),
        ]
        question, evidence = asked[number % 3]
        yield Entry("Markdown", text, question, (evidence,))


def sources() -> Iterator[Entry]:
    """Modules of the standard library."""
    asked = [
        ("textwrap", "How is text broken into lines of at most a width?", "def wrap(text, width=70"),
        ("bisect", "Where is an item inserted to the left of equal ones?", "def bisect_left("),
        ("fnmatch", "How is a shell pattern turned into a regular expression?", "def translate(pat)"),
        ("colorsys", "How is hue, lightness and saturation computed from RGB?", "def rgb_to_hls("),
        ("sched", "How is an event put into the queue after a delay?", "def enter(self, delay"),
        ("shlex", "How is a string escaped for the shell?", "def quote(s)"),
        ("heapq", "How are the n smallest elements of a dataset found?", "def nsmallest(n"),
        ("statistics", "How is the median of grouped continuous data estimated?", "def median_grouped("),
        ("calendar", "How is it tested whether a year is a leap year?", "def isleap(year)"),
        ("string", "How are words capitalized?", "def capwords(s"),
        ("queue", "How is an item removed without blocking?", "def get_nowait(self)"),
        ("contextlib", "How are exceptions suppressed in a with block?", "class suppress("),
    ]
    for name, question, evidence in asked:
        yield Entry("Python", inspect.getsource(importlib.import_module(name)), question, (evidence,))


def mails() -> Iterator[Entry]:
    """Threads: a header, a body, and what is answered, quoted."""
    for number in range(10):
        draw = random.Random(500 + number)
        one, other = draw.sample(PEOPLE, 2)
        day, hour = draw.choice(["Monday", "Wednesday", "Friday"]), draw.randrange(8, 18)
        place, part = draw.choice(CITIES), draw.choice(PARTS)
        price = draw.randrange(100, 999)
        chatter = [
            f"The {draw.choice(PARTS)} from {draw.choice(CITIES)} came without papers, and customs asked twice.",
            f"{draw.choice(PEOPLE)} is on leave until the {draw.randrange(2, 28)}th.",
            f"I talked to the people in {draw.choice(CITIES)} about the {draw.choice(PARTS)}, and they agree.",
            "Please find the drawings attached; the second page has changed.",
            f"The canteen is closed this week, so we eat at the {draw.choice(CITIES)} bar.",
            "Thanks again for the quick answer last time.",
            f"As for the {draw.choice(PARTS)}, nothing new.",
        ]
        meeting = f"We meet on {day} at {hour}:30 in {place}, second floor."
        offer = f"Our last offer for the {part} is {price} euros a piece, delivered."
        body = [*chatter[:3], meeting, *chatter[3:5]]
        quoted = [draw.choice(chatter), offer, *draw.sample(chatter, 3)]
        text = (
            f"From: {one} <{one.split()[0].lower()}@example.org>\n"
            f"To: {other} <{other.split()[0].lower()}@example.com>\n"
            f"Subject: Re: {part} for {place}\nDate: Tue, {1 + number} Mar 2026 09:{10 + number}:00 +0100\n"
            f"Message-ID: <{draw.randrange(10**9)}@example.org>\nMIME-Version: 1.0\nContent-Type: text/plain; "
            f"charset=utf-8\n\nHello {other.split()[0]},\n\n" + " ".join(body[:3]) + "\n\n" + " ".join(body[3:])
            + f"\n\nBest,\n{one.split()[0]}\n\nOn Monday {other} wrote:\n" + "".join(f"> {line}\n" for line in quoted)
            + f">\n> {other.split()[0]}\n"
        )  # fmt: skip
        asked = [
            ("When and where is the meeting?", meeting),
            (f"What did {other.split()[0]} offer for the {part}?", offer),
            (f"Which address did {one.split()[0]} write from?", f"From: {one} <{one.split()[0].lower()}@example.org>"),
        ]
        question, evidence = asked[number % 3]
        yield Entry("e-mail", text, question, (evidence,))
