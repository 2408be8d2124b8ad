"""The sealed audit log: what is falsified behind its back is found and named, and the notary signs no second past."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import Engine, text
from tests.bench import tampering
from tests.bench.audit import is_named
from tests.integration.sextant_scheduler.conftest import Api
from typer.testing import CliRunner

from sextant import Client, auditing, witnessing
from sextant.command.app import build
from sextant_scheduler.handlers.notary import Notary, Refused, Seals
from sextant_scheduler.store import sealing
from sextant_shared.contracts import notes


@pytest.fixture
def notary(tmp_path: Path) -> Path:
    """Where the notary has its key and its checkpoints."""
    return tmp_path / "notary"


@pytest.fixture
def logged(database: Engine, notary: Path) -> Engine:
    """Jobs with two or three rows each, sealed under two checkpoints."""
    for number in range(2):
        tampering.fill(database, 4, Random(number))
        tampering.seal(database, notary)
    return database


def verdict(engine: Engine, notary: Path) -> auditing.Verdict:
    """Of the whole log, against what was signed."""
    with engine.connect() as conn:
        lines = tampering.exported(conn)
    signed = witnessing.read_checkpoints(notary / "checkpoints", witnessing.read_verifier(notary / "key.pub"))
    return auditing.verify(lines, signed)


def test_an_untouched_log_holds(logged: Engine, notary: Path) -> None:
    tampering.fill(logged, 1, Random(9))
    found = verdict(logged, notary)
    assert (found.verdict, found.reason) == ("ok", None)
    assert (found.subjects, found.checkpoints) == (9, 2)
    assert (found.sealed + found.unsealed, found.unsealed > 0) == (found.rows, True)


@pytest.mark.parametrize("kind", tampering.KINDS)
def test_what_is_falsified_is_found_and_named(logged: Engine, notary: Path, kind: str) -> None:
    signed = witnessing.read_checkpoints(notary / "checkpoints", witnessing.read_verifier(notary / "key.pub"))
    for seed in range(3):
        with logged.connect() as conn:
            victim, lines = tampering.tampered(conn, kind, Random(seed))
            conn.rollback()
        found = auditing.verify(lines, signed)
        assert found.verdict == "tampered"
        assert is_named(found, victim), (victim, found.reason)


def test_checkpoints_that_another_key_signed_are_refused(logged: Engine, notary: Path) -> None:
    verifier = witnessing.read_verifier(notary / "key.pub")
    signed = witnessing.read_checkpoints(notary / "checkpoints", verifier)
    file = notary / "forged"
    file.write_text(tampering.forged(signed, verifier))
    with pytest.raises(auditing.Tampered, match="checkpoint 1"):
        witnessing.read_checkpoints(file, verifier)


def test_the_database_itself_refuses_to_change_the_log(logged: Engine) -> None:
    for statement in ("UPDATE audit SET actor = 'x'", "DELETE FROM audit", "TRUNCATE audit"):
        with pytest.raises(Exception, match="append-only"), logged.begin() as conn:
            conn.execute(text(statement))


def test_a_log_without_a_notary_for_a_minute_is_incomplete(logged: Engine, notary: Path) -> None:
    tampering.fill(logged, 1, Random(5))
    with logged.connect() as conn:
        lines = tampering.exported(conn)
    header = json.loads(lines[0])
    later = header | {"at": header["at"].replace(header["at"][:4], str(int(header["at"][:4]) + 1))}
    signed = witnessing.read_checkpoints(notary / "checkpoints", witnessing.read_verifier(notary / "key.pub"))
    found = auditing.verify([json.dumps(later), *lines[1:]], signed)
    assert (found.verdict, "older than 60 s" in (found.reason or "")) == ("incomplete", True)
    assert auditing.verify(lines[:-1], signed).verdict == "incomplete"
    assert auditing.verify([*lines[:-1], lines[-1][:9]], signed).verdict == "incomplete"


def test_rows_of_one_job_are_checked_with_the_hashes_of_the_others(logged: Engine, notary: Path) -> None:
    with logged.connect() as conn:
        victim = tampering.pick(conn, Random(1))
        lines = tampering.exported(conn, victim.subject)
    signed = witnessing.read_checkpoints(notary / "checkpoints", witnessing.read_verifier(notary / "key.pub"))
    found = auditing.verify(lines, signed)
    assert (found.verdict, found.subjects) == ("ok", 1)
    assert "row" not in "".join(line for line in lines if "leaf" in line and victim.subject not in line)
    falsified = [line.replace('"actor":"w1"', '"actor":"w2"') for line in lines]
    assert auditing.verify(falsified, signed).verdict == "tampered"


def test_the_notary_goes_on_where_it_was_and_keeps_what_a_crash_left_unwritten(logged: Engine, notary: Path) -> None:
    tampering.fill(logged, 1, Random(7))
    with logged.begin() as conn:
        first = Notary(conn, Seals(notary))
    with logged.begin() as conn:
        assert first.seal(conn) is not None  # committed, and never published
    with logged.begin() as conn:
        second = Notary(conn, Seals(notary))
    assert verdict(logged, notary).unsealed == 0
    with logged.begin() as conn:
        assert second.seal(conn) is None
        with pytest.raises(Refused, match="another one"):
            first.seal(conn)


def test_the_notary_completes_a_note_wherever_a_full_disk_cut_it_off(logged: Engine, notary: Path) -> None:
    (file,) = (notary / "checkpoints").iterdir()
    whole = file.read_bytes()
    *_, last = notes.split(whole.decode())
    # Within characters too: the mark before a signature has three bytes.
    for missing in range(1, len(last.encode())):
        file.write_bytes(whole[:-missing])
        with logged.begin() as conn:
            Notary(conn, Seals(notary))
        assert file.read_bytes() == whole, missing


@pytest.mark.parametrize("kind", ["rewrite a chain and its leaves", "cut a job's last row", "roll everything back"])
def test_the_notary_signs_no_second_past(logged: Engine, notary: Path, kind: str) -> None:
    with logged.begin() as conn:
        tampering.tampered(conn, kind, Random(3))
    with logged.begin() as conn, pytest.raises(Refused):
        Notary(conn, Seals(notary))


def test_the_notary_makes_no_new_key_for_an_old_log(logged: Engine, notary: Path) -> None:
    (notary / "key").unlink()
    with logged.begin() as conn, pytest.raises(Refused, match="put it back"):
        Notary(conn, Seals(notary))


def test_old_rows_are_taken_out_and_the_others_can_still_be_proved(
    database: Engine, notary: Path, tmp_path: Path
) -> None:
    old, new = 4, 2
    tampering.fill(database, old, Random(1))
    with database.begin() as conn:
        conn.execute(text("SET LOCAL session_replication_role = replica"))
        conn.execute(text("UPDATE audit SET at = at - interval '90 days'"))
        conn.execute(text("UPDATE jobs SET changed_at = changed_at - interval '90 days', finished_at = changed_at"))
        for subject in conn.execute(text("SELECT id FROM jobs")).scalars().all():
            tampering.rehash(conn, str(subject))
    tampering.seal(database, notary)
    tampering.fill(database, new, Random(2))
    tampering.seal(database, notary)
    before = verdict(database, notary)
    archive, kept = tmp_path / "archive.jsonl", tmp_path / "kept"
    shutil.copytree(notary / "checkpoints", kept)
    with database.connect() as conn:
        archive.write_text("".join(tampering.exported(conn)))
    with database.begin() as conn:
        limit = conn.execute(text("SELECT now() - interval '40 days'")).scalar_one()
        rows = sealing.expire(conn, tampering.TENANT, limit, "key:admin")
        assert sealing.expire(conn, "other", limit, "key:admin") == 0
    # Said by a row of its own, which the notary seals.
    assert verdict(database, notary).verdict == "tampered"
    tampering.seal(database, notary)
    after = verdict(database, notary)
    assert (after.verdict, after.reason) == ("ok", None)
    assert (after.expired, after.rows) == (rows, before.rows - rows + 1)
    # What was taken out is proved by the archive, and the checkpoints of that time.
    given = ["--log", str(archive), "--pubkey", str(notary / "key.pub"), "--checkpoints", str(kept)]
    assert CliRunner().invoke(build(), ["audit", "verify", *given]).exit_code == 0
    with pytest.raises(Exception, match="30 days"), database.begin() as conn:
        sealing.expire(conn, tampering.TENANT, conn.execute(text("SELECT now()")).scalar_one(), "key:admin")


def test_the_command_checks_an_exported_log_without_a_server(logged: Engine, notary: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    with logged.connect() as conn:
        log.write_text("".join(tampering.exported(conn)))
    given = ["--log", str(log), "--pubkey", str(notary / "key.pub"), "--checkpoints", str(notary / "checkpoints")]
    run = CliRunner().invoke(build(), ["audit", "verify", *given])
    assert (run.exit_code, run.stdout.startswith("ok: ")) == (0, True), run.output
    log.write_text(log.read_text().replace('"event":"failed"', '"event":"fine"', 1))
    run = CliRunner().invoke(build(), ["audit", "verify", *given, "--json"])
    assert (run.exit_code, json.loads(run.stdout)["verdict"]) == (2, "tampered")
    with logged.connect() as conn:
        log.write_text("".join(tampering.exported(conn)[:5]))
    assert CliRunner().invoke(build(), ["audit", "verify", *given]).exit_code == 3


def test_the_api_gives_the_log_and_the_checkpoints_by_which_it_holds(api: Api, notary: Path) -> None:
    api.submit()
    tampering.seal(api.engine, notary, batches=20)
    answer = api.http.get("/v1/audit/log")
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    signed = witnessing.read_checkpoints(notary / "checkpoints", witnessing.read_verifier(notary / "key.pub"))
    found = auditing.verify(answer.text.splitlines(), signed)
    assert (found.verdict, found.reason) == ("ok", None)
    kept = notary / "kept"
    with Client(str(api.http.base_url), api.http.headers["authorization"].split()[1]) as client:
        added, size = witnessing.witness(client, notary / "key.pub", kept)
        assert (added, size) == (len(signed), signed[-1].size)
        assert witnessing.witness(client, notary / "key.pub", kept) == (0, size)
        assert witnessing.verify_server(client, notary / "key.pub", kept).verdict == "ok"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"before": "2999-01-01T00:00:00Z"}, "30 days"),
        ({"before": "2020-01-01T00:00:00"}, "with its offset"),
        ({"before": "soon"}, "before"),
        ({"before": "0"}, "RFC 3339"),
        ({"before": 1577836800}, "RFC 3339"),
        ({"before": "2020-13-01T00:00:00Z"}, "before"),
        ({}, "before"),
        ({"before": "2020-01-01T00:00:00Z", "tenant": "other"}, "tenant"),
    ],
)
def test_an_expiry_that_may_not_be_is_refused(api: Api, body: dict[str, object], says: str) -> None:
    answer = api.http.post("/v1/audit/expirations", json=body)
    assert (answer.status_code, says in answer.text) == (422, True), answer.text


def test_an_expiry_of_nothing_takes_nothing(api: Api) -> None:
    answer = api.http.post("/v1/audit/expirations", json={"before": "2020-01-01T00:00:00Z"})
    assert (answer.status_code, answer.json()) == (201, {"rows": 0})
