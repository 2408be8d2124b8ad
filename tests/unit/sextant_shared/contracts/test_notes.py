"""Signed notes are those of C2SP, and nothing else passes for one."""

from __future__ import annotations

import pytest

from sextant_shared.contracts.notes import BadNote, Checkpoint, Signer, Verifier, split

# The example of the format's first implementation, golang.org/x/mod/sumdb/note.
KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PRIVATE = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
SIGNATURE = (
    "\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


def test_another_implementations_note_holds_and_is_written_the_same() -> None:
    verifier = Verifier.parse(KEY)
    assert verifier.open(f"{TEXT}\n{SIGNATURE}") == TEXT
    signer = Signer.parse(PRIVATE)
    assert (str(signer.verifier), signer.private) == (KEY, PRIVATE)
    assert signer.sign(TEXT) == f"{TEXT}\n{SIGNATURE}"


def test_a_note_with_more_signatures_holds_with_each_key() -> None:
    first, second = Signer.new("one"), Signer.new("two")
    note = first.sign(TEXT) + second.sign(TEXT).rpartition("\n\n")[2]
    assert first.verifier.open(note) == second.verifier.open(note) == TEXT


@pytest.mark.parametrize(
    "note",
    [
        "",
        TEXT,
        f"{TEXT}\n",
        f"{TEXT.replace('answer', 'Answer')}\n{SIGNATURE}",
        f"{TEXT}\n{SIGNATURE.replace('x08go/ZJ', 'x08go/ZK')}",
        f"{TEXT}\n{SIGNATURE.replace('PeterNeumann', 'SomeoneElse')}",
        f"{TEXT}\n{SIGNATURE.replace('=', '')}",
        Signer.new("PeterNeumann").sign(TEXT),
    ],
)
def test_what_the_key_has_not_signed_is_refused(note: str) -> None:
    with pytest.raises(BadNote):
        Verifier.parse(KEY).open(note)


@pytest.mark.parametrize(
    "text", ["", "a+b+c", KEY.replace("c74f20a3", "c74f20a4"), KEY[:-4], KEY.replace("AR", "Ax"), PRIVATE]
)
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(BadNote):
        Verifier.parse(text)
    with pytest.raises(BadNote):
        Signer.parse(text.removeprefix("PRIVATE+KEY+"))


def test_a_checkpoint_comes_back_from_its_text() -> None:
    one = Checkpoint("log", 5, b"r" * 32, "2026-01-01T00:00:00.000000Z")
    assert Checkpoint.parse(one.text()) == one


@pytest.mark.parametrize(
    "text", ["", "log\n5\n", "log\nfive\nAAAA\nnow\n", f"log\n-1\n{'A' * 43}=\nnow\n", "log\n5\nAAAA\nnow\n"]
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(BadNote):
        Checkpoint.parse(text)


def test_notes_in_one_file_are_told_apart() -> None:
    signer = Signer.new("one")
    notes = [signer.sign(f"{number}\n") for number in range(3)]
    assert list(split("".join(notes))) == notes
