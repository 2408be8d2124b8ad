"""Personal data in texts: found by their form, checked by their check digits where they have some, and replaced.

Forms find what looks like personal data: a name or an address is not found, and a number of 13 to 19 digits that passes
Luhn's check by chance (one in ten does) is taken for a card.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl

IBAN_LENGTHS = range(15, 35)


@dataclass(frozen=True, slots=True)
class Form:
    """What one kind looks like, and what a find must pass."""

    hint: str
    """A regular expression without look-around that finds at least the rows which may hold one."""
    pattern: re.Pattern[str]
    check: Callable[[str], bool]


def luhn(number: str) -> bool:
    """Whether the digits of a card's number pass the check of ISO/IEC 7812-1, annex B."""
    digits = [int(c) for c in number if c.isdigit()]
    doubled = (digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2])
    return 13 <= len(digits) <= 19 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def iban(text: str) -> bool:
    """Whether an account number passes the check of ISO 13616: 97 leaves the rest 1."""
    compact = re.sub(r"\s", "", text).upper()
    if len(compact) not in IBAN_LENGTHS:
        return False
    return int("".join(str(int(c, 36)) for c in compact[4:] + compact[:4])) % 97 == 1


def address(text: str) -> bool:
    """Whether it is an IP address of version 4 or 6."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def phone(text: str) -> bool:
    """Whether it has as many digits as numbers of ITU-T E.164, and is no date and no decimal fraction."""
    return 7 <= sum(c.isdigit() for c in text) <= 15 and not NO_PHONE.fullmatch(text)


NO_PHONE = re.compile(r"\d+\.\d+|\d{4}[-./ ]\d{1,2}[-./ ]\d{1,2}|\d{1,2}[-./ ]\d{1,2}[-./ ]\d{4}")
FORMS = {
    "email": Form("@", re.compile(r"[\w.+%-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}"), bool),
    "iban": Form(
        r"(?i)[a-z]{2}[0-9]{2}[ ]?[a-z0-9]{4}",
        re.compile(r"(?<![\w])[A-Za-z]{2}\d{2}(?: ?[A-Za-z0-9]{4}){2,7}(?: ?[A-Za-z0-9]{1,3})?(?![\w])", re.ASCII),
        iban,
    ),
    "card": Form(r"[0-9](?:[ -]?[0-9]){12}", re.compile(r"(?<![\d-])\d(?:[ -]?\d){12,18}(?![\d-])", re.ASCII), luhn),
    "ip": Form(
        r"[0-9]\.[0-9]|:",
        re.compile(r"(?<![\w.:])(?:(?:\d{1,3}\.){3}\d{1,3}|[0-9A-Fa-f:]*::?[0-9A-Fa-f:.]*[0-9A-Fa-f])(?![\w:]|\.\d)"),
        address,
    ),
    "phone": Form(
        r"[0-9](?:[ ().\-/]{0,3}[0-9]){6}",
        re.compile(r"(?<![\w.,+-])\+?\(?\d(?:[ ().\-/]{0,3}\d)*+(?!\w|[.,]\d)", re.ASCII),
        phone,
    ),
}
"""In this order: the digits of a card or an account are not taken for a phone's."""


def mask(texts: pl.Series, kinds: Sequence[str]) -> pl.Series:
    """The texts with each find replaced by the name of its kind in angle brackets. A missing text stays one."""
    for kind, form in FORMS.items():
        if kind not in kinds:
            continue
        may_hold = texts.str.contains(form.hint, literal=form.hint == "@").fill_null(value=False)
        rows = may_hold.arg_true()
        if len(rows):
            masked = pl.Series([_replaced(text, kind, form) for text in texts.gather(rows)], dtype=pl.String)
            # `scatter` changes the series itself, and with it the frame that it is of.
            texts = texts.clone().scatter(rows, masked)
    return texts


def _replaced(text: str, kind: str, form: Form) -> str:
    return form.pattern.sub(lambda found: f"<{kind.upper()}>" if form.check(found[0]) else found[0], text)
