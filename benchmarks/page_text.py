"""What is written on rendered pages: amounts, dates, addresses, prose, code and shell output, from a seed."""

from __future__ import annotations

import random
import string
import tomllib
from collections.abc import Callable
from importlib import resources
from typing import Any

__all__ = [
    "amount",
    "code",
    "date",
    "email",
    "fill",
    "listing",
    "phone",
    "pick",
    "sentences",
    "street",
    "url",
    "words_of",
]


def _read() -> dict[str, Any]:
    content = resources.files(__package__).joinpath("page_phrases.toml").read_text(encoding="utf-8")
    return tomllib.loads(content)


_PHRASES = _read()


def words_of(name: str) -> list[str]:
    """The entries of one list of ``page_phrases.toml``."""
    entries: list[str] = _PHRASES[name]
    return entries


def pick(name: str, rng: random.Random) -> str:
    """One entry of a list, its slots filled."""
    return fill(rng.choice(words_of(name)), rng)


def fill(pattern: str, rng: random.Random) -> str:
    """Fill the slots of a pattern, such as ``{amount}``, ``{date}`` or ``{thing}``; other braces stay."""
    makers: dict[str, Callable[[], str]] = {
        "amount": lambda: amount(rng),
        "date": lambda: date(rng),
        "time": lambda: f"{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}",
        "number": lambda: str(rng.randint(2, 480)),
        "small": lambda: str(rng.randint(2, 9)),
        "percent": lambda: f"{rng.uniform(0.5, 62):.1f}%",
        "code": lambda: code(rng),
        "hex": lambda: f"{rng.getrandbits(28):07x}",
        "email": lambda: email(rng),
        "url": lambda: url(rng),
        "phone": lambda: phone(rng),
        "street": lambda: street(rng),
        "thing": lambda: rng.choice(words_of("things")),
        "place": lambda: rng.choice(words_of("places")),
        "company": lambda: rng.choice(words_of("companies")),
        "file": lambda: rng.choice(words_of("files")),
        "version": lambda: f"{rng.randint(0, 9)}.{rng.randint(0, 30)}.{rng.randint(0, 12)}",
    }
    filled = pattern
    for name, make in makers.items():
        while f"{{{name}}}" in filled:
            filled = filled.replace(f"{{{name}}}", make(), 1)
    return filled


def amount(rng: random.Random, low: float = 1.0, high: float = 4800.0, sign: str = "$") -> str:
    """Money with thousands separators: "$1,204.50"."""
    return f"{sign}{rng.uniform(low, high):,.2f}"


def date(rng: random.Random) -> str:
    """A date in one of the usual notations."""
    day, month, year = rng.randint(1, 28), rng.randint(1, 12), rng.randint(2019, 2026)
    name = words_of("months")[month - 1]
    return rng.choice(
        (
            f"{year}-{month:02d}-{day:02d}",
            f"{day} {name} {year}",
            f"{name} {day}, {year}",
            f"{month}/{day}/{year}",
        )
    )


def code(rng: random.Random) -> str:
    """A reference such as "KX-20417"."""
    letters = "".join(rng.choice("ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(2))
    return f"{letters}-{rng.randint(10000, 99999)}"


def email(rng: random.Random) -> str:
    """An address under a domain that is reserved for examples."""
    company = rng.choice(words_of("companies")).split(" ")[0].lower()
    return f"{rng.choice(words_of('mailboxes'))}@{company}.example"


def url(rng: random.Random) -> str:
    """A web address under a domain that is reserved for examples."""
    company = rng.choice(words_of("companies")).split(" ")[0].lower()
    return f"https://www.{company}.example/{rng.choice(words_of('paths'))}"


def phone(rng: random.Random) -> str:
    """A number out of the range that is kept free for fiction."""
    return f"({rng.randint(201, 989)}) 555-{rng.randint(100, 199):04d}"


def street(rng: random.Random) -> str:
    """ "1204 Maple Avenue"."""
    return f"{rng.randint(2, 2400)} {rng.choice(words_of('streets'))}"


def sentences(name: str, count: int, rng: random.Random) -> str:
    """``count`` different sentences of a list as one paragraph."""
    return " ".join(fill(pattern, rng) for pattern in rng.sample(words_of(name), count))


def listing(rng: random.Random, rows: int) -> list[str]:
    """The lines of ``ls -l`` for ``rows`` files."""
    lines = [f"total {rng.randint(24, 4096)}"]
    for _ in range(rows):
        mode = rng.choice(("-rw-r--r--", "-rwxr-xr-x", "drwxr-xr-x", "-rw-------"))
        links, size = rng.randint(1, 9), rng.randint(120, 998877)
        day = f"{rng.choice(words_of('months'))[:3]} {rng.randint(10, 28)} {fill('{time}', rng)}"
        stem, _, ending = rng.choice(words_of("files")).partition(".")
        name = f"{stem}_{rng.choice(string.ascii_lowercase)}{rng.randint(0, 99)}.{ending}"
        lines.append(f"{mode} {links} dev staff {size:>7} {day} {name}")
    return lines
