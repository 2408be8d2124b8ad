"""What each step makes of texts, and which it leaves out."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from sextant_data_prep.domain import masking, text_steps
from sextant_shared.contracts.cleaning import Length, Mask, ScriptFilter, Unicode


def after(step: Any, *texts: str) -> list[str]:
    """The texts after a step."""
    return text_steps.changed(pl.Series(texts), step).to_list()


def reasons(step: Any, *texts: str) -> list[str | None]:
    """Why each text is left out."""
    found = text_steps.reason(pl.Series(texts), step)
    assert found is not None
    return found.to_list()


def masked(text: str) -> str:
    """A text with all kinds of personal data masked."""
    return after(Mask(do="mask"), text)[0]


def test_one_spelling_of_a_character_without_what_cannot_be_seen() -> None:
    step = Unicode(do="unicode")
    assert after(step, "e\u0301t\u00e9", " a\t\n b\u00a0\u2003c ", "\ufeffx\u200by\x07\u00ad") == ["été", "a b c", "xy"]
    assert after(Unicode(do="unicode", form="NFKC"), "ﬁne ①") == ["fine 1"]


def test_joiners_stay_because_words_and_emoji_are_spelled_with_them() -> None:
    words = "می\u200cخواهم", "👩\u200d💻"
    assert after(Unicode(do="unicode"), *words) == list(words)


def test_white_space_stays_where_that_is_asked_for() -> None:
    assert after(Unicode(do="unicode", collapse=False), " a\n\nb ") == [" a\n\nb "]


def test_lengths_are_of_characters_and_of_words() -> None:
    step = Length(do="length", min_chars=3, max_chars=6, min_words=1, max_words=2)
    assert reasons(step, "äö", "äöü", "a b c", "1234567") == [
        "has under 3 characters",
        None,
        "has over 2 words",
        "has over 6 characters",
    ]


def test_a_script_is_judged_by_the_letters_alone() -> None:
    step = ScriptFilter(do="script", keep=["latin", "greek"], min_share=0.5)
    assert reasons(step, "12 34!", "abcд", "αβγ", "дом a", "日本") == [
        None,
        None,
        None,
        "under 50% of its letters are latin, greek",
        "under 50% of its letters are latin, greek",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("write to a.b+c@mail.example.co.uk.", "write to <EMAIL>."),
        ("me@münchen.de,you@x.org", "<EMAIL>,<EMAIL>"),
        ("4111 1111 1111 1111 and 5500-0000-0000-0004", "<CARD> and <CARD>"),
        ("GB82 WEST 1234 5698 7654 32 or DE89370400440532013000", "<IBAN> or <IBAN>"),
        ("from 192.168.0.1, ::1 and 2001:db8::8a2e:370:7334", "from <IP>, <IP> and <IP>"),
        ("+49 (0)30 1234567, 555-123-4567 or 030/12345678", "<PHONE>, <PHONE> or <PHONE>"),
    ],
)
def test_personal_data_are_replaced_by_the_name_of_their_kind(text: str, expected: str) -> None:
    assert masked(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "a @ b, user@localhost",
        "4111 1111 1111 1112",
        "GB83WEST12345698765432",
        "999.1.1.1, version 1.2.3.4.5 at 12:30:15",
        "on 2024-01-02 it was 1,234,567.89 or 3.1415926535",
        "call 110 in 2024",
        "order AB1234567X",
    ],
)
def test_what_only_looks_like_personal_data_stays(text: str) -> None:
    assert masked(text) == text


def test_kinds_that_were_not_asked_for_stay_and_a_missing_text_stays_missing() -> None:
    texts = pl.Series(["a@b.org 192.168.0.1", None])
    assert masking.mask(texts, ["ip"]).to_list() == ["a@b.org <IP>", None]


@pytest.mark.parametrize("number", ["4111111111111111", "378282246310005", "6011000990139424"])
def test_one_wrong_digit_of_a_card_is_seen(number: str) -> None:
    assert masking.luhn(number)
    for place in range(len(number)):
        wrong = number[:place] + str((int(number[place]) + 1) % 10) + number[place + 1 :]
        assert not masking.luhn(wrong)
