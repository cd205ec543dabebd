"""The remote executor against real servers on loopback: right scores, and all that another server may do to it."""

import asyncio
import threading
import time
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from configuration.regular_file import read_regular_file
from configuration.settings import RemoteSettings
from runners.artefacts.card import Card, Task
from runners.errors import DeadlineExceeded, Overloaded
from runners.inputs.rows import Rows
from runners.placements import ejection
from runners.placements import endpoint as endpoints
from runners.placements.endpoint import Endpoint
from runners.placements.executor import MAX_FAILING_CALLS, BatchScores
from runners.placements.far_side import EndpointError
from runners.placements.remote import RemoteCounts, RemoteExecutor
from runners.placements.retry_budget import RESERVE
from runners.trace import BatchTrace, SpanContext
from tests.runners.engine_doubles import ChokesOnEverything, GivesNoNumber, GivesNoNumberForBadRows, Obliging
from tests.runners.other_server import BINARY, OtherServer, answers, card_of_doubles, cut, first, hang, serving
from tests.support.cards import TEXT
from tests.support.waiting import PATIENCE_S, in_time

CARD = card_of_doubles()
MULTICLASS = card_of_doubles(task=Task.MULTICLASS, examples={"rows": [[1.0, 2.0]], "scores": [[1.5, 1.5, 1.5]]})


def batch(*values: float) -> Rows:
    rows = np.zeros((len(values), 2), dtype=np.float32)
    rows[:, 0] = values
    return rows


THREE = batch(1, 2, 3)


class Client:
    """A remote executor for a server, met already."""

    def __init__(self, server: OtherServer, card: Card = CARD, **settings: Any) -> None:
        defaults = {"url": server.url, "model": "m", "version": "v1"}
        self.settings = RemoteSettings.model_validate({**defaults, **settings})
        self.endpoint = Endpoint(self.settings, card)
        self.ejected: list[str] = []
        self.executor = RemoteExecutor(
            self.endpoint, card, self.settings.connections, self.settings, self.ejected.append
        )

    async def run(self, rows: Rows, deadline_s: float = inf) -> BatchScores | Exception:
        future: asyncio.Future[BatchScores | Exception] = asyncio.get_running_loop().create_future()
        self.executor.run(rows, 0.0, future.set_result, time.monotonic() + deadline_s)
        return await future

    async def scores(self, rows: Rows) -> list[Any]:
        outcome = await self.run(rows)
        assert isinstance(outcome, BatchScores), outcome
        assert outcome.failures == {}
        assert outcome.scores.dtype == np.float32
        return list(outcome.scores.tolist())


def asked(server: OtherServer, *batches: Rows, card: Card = CARD, deadline_s: float = inf, **settings: Any) -> Any:
    """What comes back for batches that are sent one after the other, and who sent them."""

    async def scenario() -> tuple[list[BatchScores | Exception], Client]:
        async with serving(server):
            client = Client(server, card, **settings)
            await client.endpoint.meet()
            outcomes = [await client.run(rows, deadline_s) for rows in batches]
            await client.executor.close()
        return outcomes, client

    return in_time(scenario())


def scored(server: OtherServer, rows: Rows, card: Card = CARD, **settings: Any) -> Any:
    (outcome,), _ = asked(server, rows, card=card, **settings)
    assert isinstance(outcome, BatchScores), outcome
    assert outcome.failures == {}
    assert outcome.scores.dtype == np.float32
    return outcome.scores.tolist()


def failure(server: OtherServer, rows: Rows = THREE, card: Card = CARD, **settings: Any) -> str:
    (outcome,), _ = asked(server, rows, card=card, **settings)
    assert isinstance(outcome, EndpointError), outcome
    return str(outcome)


@pytest.mark.parametrize("extensions", [[BINARY], []], ids=["binary", "JSON"])
@pytest.mark.parametrize("rows", [1, 3, 4096])
def test_scores_come_back_in_the_order_of_their_rows(rows: int, extensions: list[str]) -> None:
    server = OtherServer(extensions=extensions)
    values = np.arange(rows, dtype=np.float32)
    assert scored(server, batch(*values)) == (values + np.float32(0.5)).tolist()
    assert server.sizes == [rows]


def test_a_batch_that_is_shut_out_before_its_first_step_fails_as_all_others_do() -> None:
    """Its request would wait for ever."""

    async def scenario() -> None:
        async with serving(OtherServer()) as server:
            client = Client(server)
            await client.endpoint.meet()
            under_way = asyncio.ensure_future(client.run(THREE))
            await asyncio.sleep(0)
            unbegun = asyncio.ensure_future(client.run(THREE))
            # It has handed its batch over and waits; the task for that batch has not run yet.
            client.executor.run(THREE, 0.0, (third := asyncio.get_running_loop().create_future()).set_result)
            client.executor.shut_out("gone")
            for outcome in await asyncio.gather(under_way, unbegun, third):
                assert isinstance(outcome, EndpointError), outcome
            await client.executor.close()

    in_time(scenario())


def test_numbers_survive_json_to_the_last_bit() -> None:
    values = np.random.default_rng(1).normal(size=500).astype(np.float32) ** 9
    server = OtherServer(engine=Obliging(), extensions=[])
    assert scored(server, batch(*values)) == (values + np.float32(0.5)).tolist()


def test_a_batch_that_is_part_of_a_larger_array_arrives_whole() -> None:
    assert scored(OtherServer(), batch(1, 2, 3, 4)[::2]) == [1.5, 3.5]


def test_several_classes() -> None:
    assert scored(OtherServer(engine=Obliging(per_row=3)), batch(3, 1), card=MULTICLASS) == [[3.5] * 3, [1.5] * 3]


@pytest.mark.parametrize("shape", [(), ("a column",)], ids=["[n, 1]", "both classes"])
def test_one_probability_a_row_in_other_shapes(shape: tuple[str, ...]) -> None:
    def column(scores: NDArray[Any]) -> NDArray[Any]:
        return np.stack([1 - scores, scores], axis=1) if shape else scores[:, None]

    assert scored(OtherServer(shape=column), batch(1, 2)) == [1.5, 2.5]


@pytest.mark.parametrize("datatype", ["FP64", "INT64"])
def test_other_datatypes_of_scores(datatype: str) -> None:
    expected = [1.5, 2.5] if datatype == "FP64" else [1.0, 2.0]
    assert scored(OtherServer(datatype=datatype), batch(1, 2)) == expected


def test_the_path_names_the_version_unless_none_is_wanted() -> None:
    server = OtherServer()
    scored(server, batch(1))
    scored(server, batch(1), version=None)
    scored(server, batch(1), model="a b", version="1/2")
    assert server.paths == [
        "/v2/models/m/versions/v1/infer", "/v2/models/m/infer", "/v2/models/a b/versions/1/2/infer",
    ]  # fmt: skip


def test_the_tensors_are_named_as_the_other_side_names_them() -> None:
    metadata = {
        "inputs": [{"name": "input-0", "datatype": "FP64", "shape": [-1, 2]}],
        "outputs": [
            {"name": "label", "datatype": "INT64", "shape": [-1]},
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]},
        ],
    }
    server = OtherServer(metadata=metadata, output="probabilities")
    assert scored(server, batch(1, 2)) == [1.5, 2.5]
    asked_for = server.asked[0]
    assert (asked_for["inputs"][0]["name"], asked_for["inputs"][0]["datatype"]) == ("input-0", "FP64")
    assert [output["name"] for output in asked_for["outputs"]] == ["probabilities"]


def test_of_other_outputs_the_data_are_skipped() -> None:
    label = {"name": "classes", "datatype": "INT64", "shape": [2], "data": [0, 1]}
    assert scored(OtherServer(others=[label]), batch(1, 2)) == [1.5, 2.5]
    text = {"name": "names", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]}
    assert scored(OtherServer(others=[text], output="y", extensions=[]), batch(1, 2)) == [1.5, 2.5]


def test_an_output_may_be_configured() -> None:
    noise = {"name": "noise", "datatype": "FP32", "shape": [1], "data": [7]}
    server = OtherServer(others=[noise], output="proba", extensions=[])
    assert scored(server, batch(1), output="proba") == [1.5]
    assert "remote.output" in failure(OtherServer(others=[noise], output="proba", extensions=[]))


@pytest.mark.parametrize("extensions", [[BINARY], []], ids=["binary", "JSON"])
@pytest.mark.parametrize("shape", [[-1], [-1, 1]])
def test_texts(shape: list[int], extensions: list[str]) -> None:
    class Lengths(Obliging):
        def predict(self, rows: Rows) -> Any:
            return np.array([len(text) for text in rows[:, 0]], np.float32)

    card = card_of_doubles(**TEXT)
    metadata = {"inputs": [{"name": "message", "datatype": "BYTES", "shape": shape}]}
    server = OtherServer(engine=Lengths(), extensions=extensions, metadata=metadata)
    texts = np.array([["win"], [""], ["hé\0"]], dtype=object)
    assert scored(server, texts, card=card) == [3, 0, 3]
    assert server.asked[0]["inputs"][0]["shape"] == [3, *shape[1:]]


@pytest.mark.parametrize(
    ("metadata", "why"),
    [
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 8]}]}, "takes 8 features, and this one has 2"),
        ({"inputs": [{"name": "x", "datatype": "BYTES", "shape": [-1]}]}, "takes BYTES, where FP16 or FP32 or FP64"),
        ({"inputs": [{"name": n, "datatype": "FP32", "shape": [-1]} for n in "ab"]}, "takes 2 inputs (a FP32, b FP32)"),
        ({"outputs": [{"name": "y", "datatype": "BYTES", "shape": [-1]}]}, "its outputs are y BYTES"),
        ({"inputs": 7}, "did not answer as the Open Inference Protocol says"),
    ],
)
def test_a_model_that_takes_something_else_is_refused_when_it_is_met(metadata: dict[str, Any], why: str) -> None:
    with pytest.raises(EndpointError) as refused:
        asked(OtherServer(metadata=metadata))
    assert why in str(refused.value)


WIDE = card_of_doubles(
    format=3, features=[{"name": "width", "precision": "float64"}, {"name": "count", "type": "integer"}]
)


@pytest.mark.parametrize("extensions", [[BINARY], []], ids=["binary", "JSON"])
def test_rows_of_float64_are_sent_with_all_their_digits(extensions: list[str]) -> None:
    server, rows = OtherServer(extensions=extensions), np.array([[1_700_000_001.5, 3], [0.1, 2]])
    scored(server, rows, card=WIDE)
    (tensor,) = server.asked[-1]["inputs"]
    assert tensor["datatype"] == "FP64"
    if extensions:
        assert tensor["parameters"]["binary_data_size"] == rows.nbytes
    else:
        assert tensor["data"] == rows.ravel().tolist()
    narrow = OtherServer(metadata={"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]})
    with pytest.raises(EndpointError, match="its model takes FP32, where FP64 belongs"):
        asked(narrow, card=WIDE)


def test_connections_are_used_again() -> None:
    server = OtherServer()
    asked(server, *(batch(number) for number in range(20)))
    assert (len(server.sizes), len(server.peers)) == (20, 1)


def test_a_connection_is_renewed_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "RENEW_EVERY_S", 0.0)
    server = OtherServer()
    asked(server, batch(1), batch(2), batch(3))
    assert len(server.peers) == 3


def test_batches_travel_side_by_side() -> None:
    async def scenario() -> None:
        arrived = asyncio.Semaphore(0)
        all_here = asyncio.Event()

        async def wait(server: OtherServer, request: Any, rows: Rows) -> Any:
            arrived.release()
            await all_here.wait()
            return await server.answer(rows)

        async with serving(OtherServer(trouble=wait)) as server:
            client = Client(server, connections=3)
            assert client.executor.concurrency == 3
            running = [asyncio.ensure_future(client.scores(batch(number))) for number in range(3)]
            for _ in running:
                await arrived.acquire()
            all_here.set()
            assert await asyncio.gather(*running) == [[0.5], [1.5], [2.5]]
            await client.executor.close()

    in_time(scenario())


def test_a_key_is_shown_and_read_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "key"
        path.write_text("old\n")
        async with serving(OtherServer(key="old")) as server:
            client = Client(server, key_file=str(path))
            await client.endpoint.meet()
            assert await client.scores(batch(1)) == [1.5]
            server.key = "new"
            assert isinstance(await client.run(batch(1)), EndpointError)
            path.write_text("new")
            await client.endpoint.meet()
            assert await client.scores(batch(1)) == [1.5]
            path.unlink()
            with pytest.raises(EndpointError, match=r"key_file: .*No such file"):
                await client.endpoint.meet()
            await client.executor.close()

    in_time(scenario())


def test_a_key_file_that_hangs_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system whose server is gone; a file that was never read is no key."""
    hangs = threading.Event()

    def read_later(path: Path, max_bytes: int) -> bytes:
        hangs.wait(PATIENCE_S)
        return read_regular_file(path, max_bytes)

    async def scenario() -> None:
        path = tmp_path / "key"
        path.write_text("old")
        async with serving(OtherServer(key="old")) as server:
            client, late = Client(server, key_file=str(path)), Client(server, key_file=str(path))
            await client.endpoint.meet()
            monkeypatch.setattr("runners.placements.endpoint.read_regular_file", read_later)
            path.write_text("new")
            before = threading.active_count()
            for _ in range(20):
                assert await client.endpoint.probe(5)
            assert threading.active_count() <= before + 1
            assert await client.scores(batch(1)) == [1.5]
            with pytest.raises(EndpointError, match=r"key_file: .*key: was not read within 0.1 s"):
                await late.endpoint.meet()
            server.key = "new"
            assert not await client.endpoint.probe(5)
            hangs.set()
            while not await client.endpoint.probe(5):
                await asyncio.sleep(0.01)
            await late.endpoint.meet()
            await client.executor.close()
            await late.executor.close()

    monkeypatch.setattr(endpoints, "KEY_TIMEOUT_S", 0.1)
    try:
        in_time(scenario())
    finally:
        hangs.set()


def test_a_refused_key_is_told_in_the_servers_words() -> None:
    with pytest.raises(EndpointError, match="not ready: it answered 401: show a key"):
        asked(OtherServer(key="secret"))


@pytest.mark.parametrize("extensions", [[BINARY], []], ids=["binary", "JSON"])
def test_bad_rows_fail_alone(extensions: list[str]) -> None:
    (outcome,), client = asked(OtherServer(extensions=extensions), batch(1, -1, 3, -2, *range(60)))
    assert isinstance(outcome, BatchScores)
    assert set(outcome.failures) == {1, 3}
    assert outcome.failures[1] == "it answered 500: 1 bad rows"
    assert outcome.scores[[0, 2, 4, 63]].tolist() == [1.5, 3.5, 0.5, 59.5]
    assert client.executor.flush() == RemoteCounts(refused=1)


def test_a_row_whose_score_is_no_number_fails_alone() -> None:
    (outcome,), _ = asked(OtherServer(engine=GivesNoNumberForBadRows()), batch(1, -1, 3))
    assert set(outcome.failures) == {1}


def test_a_server_that_gives_no_numbers_fails_as_a_whole_and_is_left_alone() -> None:
    server = OtherServer(engine=GivesNoNumber())
    outcomes, client = asked(server, *[batch(1, 2)] * 5, eject_after_failures=2)
    assert all(isinstance(outcome, EndpointError) for outcome in outcomes)
    assert len(client.ejected) == 1


def test_many_bad_rows_cost_a_bounded_number_of_calls() -> None:
    server = OtherServer()
    (outcome,), _ = asked(server, batch(*[-1, 1] * 512))
    assert set(outcome.failures) >= set(range(0, 1024, 2))
    assert len(server.sizes) <= 2 * MAX_FAILING_CALLS + 6


def test_bad_rows_never_eject_a_server_that_scores_others() -> None:
    outcomes, client = asked(OtherServer(), *[batch(-1)] * 30, eject_after_failures=2)
    assert all(set(outcome.failures) == {0} for outcome in outcomes)
    assert client.ejected == []


def test_a_server_that_scores_nothing_fails_as_a_whole_and_cheaply() -> None:
    server = OtherServer(trouble=answers(500, "out of order"))
    assert failure(server, batch(*range(4096))) == "it answered 500: out of order"
    assert server.sizes == [4096, 1]


def test_a_batch_that_is_too_large_is_sent_in_parts() -> None:
    async def small(server: OtherServer, request: Any, rows: Rows) -> Any:
        return await (answers(413)(server, request, rows) if len(rows) > 100 else server.answer(rows))

    server = OtherServer(trouble=small)
    values = np.arange(300, dtype=np.float32)
    assert scored(server, batch(*values)) == (values + np.float32(0.5)).tolist()
    assert max(server.sizes[2:]) <= 150


WRONG_ANSWERS: dict[str, tuple[dict[str, Any], str]] = {
    "too few scores": ({"shape": lambda scores: scores[1:]}, "has shape [2], where 3 rows were sent"),
    "too many scores": (
        {"shape": lambda scores: np.repeat(scores, 2)}, "has shape [6], where 3 rows were sent",
    ),
    "too many numbers a row": (
        {"shape": lambda scores: np.repeat(scores[:, None], 3, axis=1)}, "has 3 numbers a row, where 1 belong",
    ),
    "no output": ({"output": "label", "datatype": "INT64", "others": [
        {"name": "x", "datatype": "INT64", "shape": [3], "data": [1, 2, 3]}]}, "its outputs are x INT64, label INT64"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "why"), WRONG_ANSWERS.values(), ids=WRONG_ANSWERS)
@pytest.mark.parametrize("extensions", [[BINARY], []], ids=["binary", "JSON"])
def test_an_answer_that_is_not_these_rows_scores_is_refused(
    changes: dict[str, Any], why: str, extensions: list[str]
) -> None:
    assert why in failure(OtherServer(extensions=extensions, **changes))


RUBBISH = {
    "no JSON": b"hello",
    "another JSON": b"[]",
    "no outputs": b'{"outputs": []}',
    "a length that lies": b'{"outputs": [{"name": "y", "datatype": "FP32", "shape": [3], "data": [1]}]}',
    "a shape of no length": b'{"outputs": [{"name": "y", "datatype": "FP32", "shape": [], "data": [1]}]}',
    "a shape below zero": b'{"outputs": [{"name": "y", "datatype": "FP32", "shape": [-3, -1], "data": [1, 2, 3]}]}',
    "words": b'{"outputs": [{"name": "y", "datatype": "FP32", "shape": [3], "data": ["a", "b", "c"]}]}',
    "nothing": b'{"outputs": [{"name": "y", "datatype": "FP32", "shape": [3]}]}',
    "binary data that is missing": b'{"outputs": [{"name": "y", "datatype": "FP32", "shape": [3], "parameters": '
    b'{"binary_data_size": 12}}]}',
}


@pytest.mark.parametrize("body", RUBBISH.values(), ids=RUBBISH)
def test_rubbish_is_refused(body: bytes) -> None:
    async def rubbish(server: OtherServer, request: Any, rows: Rows) -> Any:
        from aiohttp import web

        return web.Response(body=body)

    failure(OtherServer(trouble=rubbish))


def test_the_deadline_is_passed_on() -> None:
    server = OtherServer()
    asked(server, batch(1), deadline_s=5.0)
    asked(server, batch(1), timeout_s=7)
    told = [int(headers["X-Request-Deadline-Ms"]) for headers in server.headers]
    assert 3000 < told[0] <= 5000
    assert 5000 < told[1] <= 7000


def test_a_batch_that_is_late_is_not_sent() -> None:
    server = OtherServer()
    (outcome,), client = asked(server, batch(1), deadline_s=0.0)
    assert isinstance(outcome, DeadlineExceeded)
    assert server.sizes == []
    assert client.executor.flush() == RemoteCounts(late=1)


def test_a_batch_is_given_up_at_its_deadline_which_says_nothing_of_the_server() -> None:
    server = OtherServer(trouble=hang)
    outcomes, client = asked(server, *[batch(1)] * 3, deadline_s=0.1, eject_after_failures=1)
    assert [type(outcome) for outcome in outcomes] == [DeadlineExceeded] * 3
    assert (len(server.sizes), client.ejected) == (3, [])


def test_a_server_that_does_not_answer_is_given_up_in_time_and_not_asked_again() -> None:
    server = OtherServer(trouble=hang)
    assert failure(server, timeout_s=0.2) == "no answer within 0.2 s"
    assert len(server.sizes) == 1


@pytest.mark.parametrize("trouble", [cut, answers(502), answers(503)], ids=["cut", "502", "503"])
def test_a_batch_is_sent_once_more_where_that_may_help(trouble: Any) -> None:
    server = OtherServer(trouble=first(1, trouble))
    (outcome,), client = asked(server, batch(1, 2))
    assert outcome.scores.tolist() == [1.5, 2.5]
    assert client.executor.flush() == RemoteCounts(scored=1, retries=1)


@pytest.mark.parametrize("trouble", [cut, answers(502), answers(503)], ids=["cut", "502", "503"])
def test_a_batch_is_sent_no_more_than_twice(trouble: Any) -> None:
    server = OtherServer(trouble=trouble)
    failure(server)
    assert len(server.sizes) == 2


def test_retries_are_few_when_everything_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ejection, "MIN_CALLS", 1000)
    server = OtherServer(trouble=cut)
    asked(server, *[batch(1)] * 100, eject_after_failures=1000)
    assert 100 + RESERVE <= len(server.sizes) <= 100 + RESERVE + 25


@pytest.mark.parametrize("status", [301, 401, 403, 404, 405, 501, 504])
def test_other_answers_are_failures_of_the_server(status: int) -> None:
    server = OtherServer(trouble=answers(status, "no", Location="http://127.0.0.1:1/"))
    assert failure(server) == f"it answered {status}: no"
    assert len(server.sizes) == 1


@pytest.mark.parametrize(
    ("trouble", "seconds"),
    [
        (answers(503, Retry_After="7"), 7),
        (answers(429, Retry_After="Sat, 21 Nov 2026 00:00:00 GMT"), 1),
        (answers(429), 1),
        (answers(429, Retry_After="9" * 400), endpoints.MAX_RETRY_AFTER_S),
    ],
)
def test_a_server_that_has_too_much_to_do_is_told_as_such_and_not_as_broken(trouble: Any, seconds: float) -> None:
    outcomes, client = asked(OtherServer(trouble=trouble), *[batch(1)] * 3, eject_after_failures=1)
    assert [outcome.retry_after_s for outcome in outcomes if isinstance(outcome, Overloaded)] == [seconds] * 3
    assert client.ejected == []
    assert client.executor.flush() == RemoteCounts(overloaded=3)


def test_a_server_that_is_not_ready_is_not_taken_for_a_busy_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "TRUST_S", 0.0)

    async def stopping(server: OtherServer, request: Any, rows: Rows) -> Any:
        server.ready = False
        return await answers(503, "stopping", Retry_After="1")(server, request, rows)

    assert failure(OtherServer(trouble=stopping)) == "it answered 503: stopping"


def test_failures_in_a_row_eject() -> None:
    server = OtherServer(trouble=answers(404, "gone"))
    outcomes, client = asked(server, *[batch(1)] * 6, eject_after_failures=3)
    assert [str(outcome) for outcome in outcomes] == ["it answered 404: gone"] * 3 + [
        "it is away: it answered 404: gone"
    ] * 3
    assert client.ejected == ["it answered 404: gone"]
    assert len(server.sizes) == 3
    assert client.executor.flush() == RemoteCounts(failed=3, ejections=1)


def test_an_ejected_server_gets_batches_again_when_it_is_admitted() -> None:
    async def scenario() -> None:
        async with serving(OtherServer(trouble=first(2, answers(404)))) as server:
            client = Client(server, eject_after_failures=2)
            for _ in range(3):
                assert isinstance(await client.run(batch(1)), EndpointError)
            client.executor.admit()
            assert await client.scores(batch(1)) == [1.5]
            await client.executor.close()

    in_time(scenario())


def test_a_server_that_is_not_there_is_reported() -> None:
    async def scenario() -> BatchScores | Exception:
        async with serving(OtherServer()) as server:
            client = Client(server)
        outcome = await client.run(batch(1))
        await client.executor.close()
        return outcome

    outcome = in_time(scenario())
    assert isinstance(outcome, EndpointError)
    assert str(outcome) == "cannot connect: Connection refused"


def test_a_name_that_there_is_not_is_reported() -> None:
    async def scenario() -> None:
        client = Client(OtherServer(url="http://shokado.invalid:3000"))
        with pytest.raises(EndpointError, match="cannot connect"):
            await client.endpoint.meet()
        await client.executor.close()

    in_time(scenario())


def test_a_server_that_speaks_something_else_is_reported() -> None:
    async def scenario() -> BatchScores | Exception:
        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"hello\r\n\r\n")
            await writer.drain()
            writer.close()

        listener = await asyncio.start_server(greet, "127.0.0.1", 0)
        async with listener:
            port = listener.sockets[0].getsockname()[1]
            client = Client(OtherServer(url=f"http://127.0.0.1:{port}"))
            outcome = await client.run(batch(1))
            await client.executor.close()
        return outcome

    assert isinstance(in_time(scenario()), EndpointError)


def test_an_engine_that_is_broken_is_the_servers_failure_and_not_the_rows() -> None:
    class Broken(ChokesOnEverything):
        def predict(self, rows: Rows) -> Any:
            raise ValueError("out of order")

    assert failure(OtherServer(engine=Broken())) == "it answered 500: out of order"


def test_each_call_says_which_span_it_is_part_of() -> None:
    server = OtherServer()
    trace = BatchTrace(SpanContext(10, 11, 1, "a=1", parent_id=9))

    async def scenario() -> None:
        async with serving(server):
            client = Client(server)
            await client.endpoint.meet()
            future: asyncio.Future[BatchScores | Exception] = asyncio.get_running_loop().create_future()
            # One row is refused: several calls are made for the batch.
            client.executor.run(batch(1, -1), 0.0, future.set_result, inf, trace)
            assert isinstance(await future, BatchScores)
            await client.run(THREE)
            await client.executor.close()

    in_time(scenario())
    *traced, last = [headers.get("traceparent") for headers in server.headers]
    assert traced == [f"00-{10:032x}-{call.context.span_id:016x}-01" for call in trace.calls]
    assert len(traced) > 1
    assert last is None, "what is part of no trace names none"
    assert server.headers[0]["tracestate"] == "a=1"
    assert trace.address == "http://" + server.url.removeprefix("http://") + "/v2/models/m/versions/v1"
    assert [call.error for call in trace.calls][:2] == ["CallRefused", ""]
    assert all(call.started_at < call.ended_at for call in trace.calls)
