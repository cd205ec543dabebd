"""Keys: what a file may hold, what is compared, and changes by several at once."""

import hmac
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from shokado.access import keys
from shokado.access.keys import MAX_KEYS, KeyFileError, KeyRing, Role, add_key, digest_of, read_keys, revoke_key

DIGEST = "ab" * 32


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.yaml"


def test_a_key_is_shown_once_and_only_its_digest_kept(file: Path) -> None:
    secret = add_key(file, "ci", Role.PREDICT)
    assert secret.startswith("shk_")
    assert len(secret) >= 47, "256 bits"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert secret not in file.read_text()
    found = read_keys(file).find(digest_of(secret.encode()))
    assert found is not None
    assert (found.name, found.role) == ("ci", Role.PREDICT)
    assert found.sha256 not in repr(found)


def test_a_revoked_key_is_gone_and_the_others_stay(file: Path) -> None:
    gone, kept = add_key(file, "gone", Role.ADMIN), add_key(file, "kept", Role.PREDICT)
    revoke_key(file, "gone")
    ring = read_keys(file)
    assert ring.find(digest_of(gone.encode())) is None
    assert ring.find(digest_of(kept.encode())) is not None
    revoke_key(file, "kept")
    assert read_keys(file).keys == ()
    with pytest.raises(KeyFileError, match="no key called kept"):
        revoke_key(file, "kept")
    assert list(file.parent.iterdir()) == [file], "nothing is left behind"


def test_of_changes_at_once_none_is_lost(file: Path) -> None:
    names = [f"key-{number}" for number in range(12)]
    threads = [threading.Thread(target=add_key, args=(file, name, Role.PREDICT)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(key.name for key in read_keys(file).keys) == sorted(names)


def test_every_key_is_compared_in_constant_time(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first, the last and an unknown key cost as many comparisons."""
    secrets = [add_key(file, f"key-{number}", Role.PREDICT) for number in range(5)]
    compared: list[bytes] = []

    def compare(known: bytes, shown: bytes) -> bool:
        compared.append(known)
        return hmac.compare_digest(known, shown)

    monkeypatch.setattr("shokado.access.keys.compare_digest", compare)
    for secret in (secrets[0], secrets[-1], "shk_unknown"):
        compared.clear()
        read_keys(file).find(digest_of(secret.encode()))
        assert len(set(compared)) == len(compared) == 5


def test_only_keys_that_were_found_are_remembered() -> None:
    ring = KeyRing((keys.Key("ci", Role.PREDICT, DIGEST),))
    for number in range(100):
        assert ring.find(digest_of(str(number).encode())) is None
    assert ring.find(bytes.fromhex(DIGEST)) is ring.find(bytes.fromhex(DIGEST)) is not None
    assert len(ring._found) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[", "not readable as YAML"),
        ("a: 1", "no list"),
        ("- 1", "entry 1 must have name, role and sha256"),
        (f"- {{name: ci, role: predict, sha256: '{DIGEST}', more: 1}}", "and nothing else"),
        (f"- {{name: CI!, role: predict, sha256: '{DIGEST}'}}", "small letters"),
        (f"- {{name: ci, role: root, sha256: '{DIGEST}'}}", "predict or admin"),
        ("- {name: ci, role: predict, sha256: 12}", "64 hexadecimal"),
        (f"- {{name: ci, role: predict, sha256: '{DIGEST.upper()}'}}", "64 hexadecimal"),
        ("\n".join(f"- {{name: ci, role: admin, sha256: '{d * 64}'}}" for d in "12"), "the name of key ci"),
        ("\n".join(f"- {{name: k{n}, role: admin, sha256: '{DIGEST}'}}" for n in "12"), "the sha256 of key k1"),
        ("\n".join(f"- {{name: k{n}, role: admin, sha256: '{n:064x}'}}" for n in range(MAX_KEYS + 1)), "at most 64"),
        ("#" * 70_000, "longer than"),
        ("\0", "not readable"),
        ("[" * 20_000, "not readable"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_file_that_is_wrong_is_refused_and_its_digests_not_repeated(file: Path, text: str, says: str) -> None:
    file.write_text(text)
    with pytest.raises(KeyFileError, match=says) as refused:
        read_keys(file)
    assert DIGEST not in str(refused.value)


def test_a_missing_file_and_a_taken_name_are_refused(file: Path) -> None:
    with pytest.raises(KeyFileError, match="No such file"):
        read_keys(file)
    add_key(file, "ci", Role.PREDICT)
    before = file.read_text()
    for name, says in (("ci", "there is a key called ci"), ("No Name", "small letters")):
        with pytest.raises(KeyFileError, match=says):
            add_key(file, name, Role.ADMIN)
    assert file.read_text() == before


@pytest.mark.parametrize(("has", "wanted", "may"), [
    (Role.ADMIN, Role.ADMIN, True), (Role.ADMIN, Role.PREDICT, True),
    (Role.PREDICT, Role.PREDICT, True), (Role.PREDICT, Role.ADMIN, False),
])  # fmt: skip
def test_an_admin_may_predict_and_not_the_other_way_round(has: Any, wanted: Any, may: bool) -> None:
    assert has.includes(wanted) is may
