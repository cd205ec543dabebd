"""The webhook at a real receiver: what is posted, how it is signed, and what comes of refusals."""

import asyncio
import json
import subprocess
from base64 import b64encode
from pathlib import Path

import pytest

from shokado.retraining.event import Outcome
from shokado.retraining.webhook import post
from tests.request_log.sinks.receiver import Receiver, receiving
from tests.support.server import ROOT, free_port

PYTHON = ROOT / "var" / "test" / "clients" / "webhooks" / "bin" / "python"
BODY = b'{"type":"retraining.wanted"}'
SECRET = bytes(range(32))
VERIFY = """
import json, sys
from standardwebhooks import Webhook
given = json.load(sys.stdin)
print(json.dumps(Webhook(given["secret"]).verify(given["body"], given["headers"])))
"""


def sent(receiver: Receiver, key_file: Path | None = None, path: str = "", timeout_s: float = 20) -> Outcome:
    return asyncio.run(post(receiver.url + path, "event-1", BODY, key_file, timeout_s))


def test_an_event_is_posted_and_any_2xx_has_accepted_it() -> None:
    with receiving() as receiver:
        found = sent(receiver)
        assert (found.accepted, found.note) == (True, f"{receiver.url.removesuffix('/events')} answered 202")
        assert receiver.bodies == [BODY]
        assert receiver.heads[0]["webhook-id"] == "event-1"
        assert receiver.heads[0]["content-type"] == "application/json"
        assert "webhook-signature" not in receiver.heads[0]
        receiver.script.append((200, {}))
        assert sent(receiver).accepted


@pytest.mark.skipif(not PYTHON.exists(), reason="needs the client of webhooks: make clients")
@pytest.mark.parametrize("written", ["whsec_", ""])
def test_the_library_of_standard_webhooks_verifies_the_signature(tmp_path: Path, written: str) -> None:
    encoded = b64encode(SECRET).decode()
    (tmp_path / "key").write_bytes(f"whsec_{encoded}\n".encode() if written else SECRET)
    with receiving() as receiver:
        assert sent(receiver, tmp_path / "key").accepted
        given = {"secret": f"whsec_{encoded}", "body": BODY.decode(), "headers": receiver.heads[0]}

    def verified(told: object) -> subprocess.CompletedProcess[str]:
        command = [str(PYTHON), "-c", VERIFY]
        return subprocess.run(command, input=json.dumps(told), capture_output=True, text=True, check=False, timeout=120)

    done = verified(given)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads(BODY)
    assert verified(given | {"body": BODY.decode() + " "}).returncode != 0


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"short", "must hold 24 bytes or more"), (b"whsec_!!", "no base64 behind whsec_"), (None, "No such file")],
)
def test_without_a_usable_secret_nothing_is_posted(tmp_path: Path, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / "key").write_bytes(content)
    with receiving() as receiver:
        found = sent(receiver, tmp_path / "key")
        assert not found.accepted
        assert words in found.note
        assert receiver.bodies == []


@pytest.mark.parametrize(("rest", "seconds"), [("7", 7), ("nan", 0), ("-3", 0), ("Wed, 21 Oct 2026 07:28:00 GMT", 0)])
def test_a_refusal_may_ask_for_a_rest(rest: str, seconds: float) -> None:
    with receiving() as receiver:
        receiver.script.append((503, {"retry-after": rest}))
        found = sent(receiver)
        assert (found.accepted, found.retry_after_s) == (False, seconds)


def test_redirects_are_not_followed_and_tokens_of_the_address_are_not_told() -> None:
    with receiving() as receiver:
        receiver.script.append((307, {"location": receiver.url}))
        found = sent(receiver, path="/token?key=secret")
        assert not found.accepted
        assert "token" not in found.note
        assert "secret" not in found.note
        assert len(receiver.bodies) == 1


def test_a_receiver_that_is_silent_is_left() -> None:
    with receiving() as receiver:
        receiver.script.append((0, {}))
        found = sent(receiver, timeout_s=0.3)
        assert found == Outcome(False, f"{receiver.url.removesuffix('/events')} did not answer within 0.3 s")


def test_a_receiver_whose_answer_never_ends_has_answered() -> None:
    with receiving() as receiver:
        receiver.endless = True
        assert sent(receiver).accepted


def test_nobody_there_is_a_failure() -> None:
    receiver = Receiver(url=f"http://127.0.0.1:{free_port()}/events")
    found = sent(receiver)
    assert (found.accepted, "cannot be reached" in found.note) == (False, True)
