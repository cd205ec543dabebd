"""The entrance itself, asked over a real connection, with a runner that does its jobs when it is told."""

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from math import inf
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2, health_pb2_grpc

from configuration.settings import GrpcSettings, LimitSettings
from runners.artefacts.card import Card
from runners.errors import ModelFailure, NotReady, Overloaded
from runners.inputs.rows import Rows
from shokado.dialects.problem import Problem
from shokado.dialects.served_models import ServedModels
from shokado.dispatch.request import Prediction
from shokado.transports.call import Call, Entrance
from shokado.transports.grpc import open_inference_pb2 as messages
from shokado.transports.grpc.server import SERVICE, GrpcExchange, GrpcServer, refuse_taken_port
from tests.dispatch.double_runners import DoubleRunner, routed, started
from tests.runners.engine_doubles import Obliging
from tests.support.cards import toy_card
from tests.support.garbage import of_kinds, uncollected
from tests.support.server import free_port
from tests.support.waiting import until
from tests.transports.test_call import CallBench

CONTEXT = grpc._cython.cygrpc._ServicerContext
STATUSES = health_pb2.HealthCheckResponse


class Open:
    """A running entrance, and a client of it."""

    def __init__(self, bench: CallBench, served: Card | None = None, policy: str = "{}", **settings: Any) -> None:
        """`policy` is the client's service configuration."""
        self.bench = bench
        self.options = [("grpc.service_config", policy), ("grpc.use_local_subchannel_pool", 1)]
        self.ready = True
        self.port = free_port()
        entrance: Entrance = bench.handler._entrance
        chosen = GrpcSettings(port=self.port, **settings)
        models = ServedModels("toy", bench.dispatcher, lambda: self.ready)
        self.server = GrpcServer(chosen, LimitSettings(), models, served or toy_card(), entrance)

    def infer(
        self, timeout_s: float = 20, row: Sequence[float] = (1, 2, 3), headers: dict[str, str] | None = None
    ) -> Any:
        tensor = {"name": "x", "datatype": "FP32", "shape": [1, len(row)], "contents": {"fp32_contents": row}}
        request = messages.ModelInferRequest(model_name="toy", inputs=[tensor])
        method = self.channel.unary_unary(
            f"/{SERVICE}/ModelInfer", request.__class__.SerializeToString, messages.ModelInferResponse.FromString
        )
        return method(request, timeout=timeout_s, metadata=tuple((headers or {}).items()))

    async def health(self, service: str = "") -> int:
        answer = await health_pb2_grpc.HealthStub(self.channel).Check(health_pb2.HealthCheckRequest(service=service))
        status: int = answer.status
        return status

    async def until_held(self, jobs: int = 1) -> None:
        await until(lambda: len(self.bench.runner.jobs) == jobs)

    async def __aenter__(self) -> "Open":
        await self.server.start()
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{self.port}", options=self.options)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.channel.close()
        await self.server.stop()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CallBench:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    return CallBench()


@contextlib.asynccontextmanager
async def refused(*codes: grpc.StatusCode) -> AsyncIterator[dict[str, str]]:
    """Fails unless the block ends with one of these statuses; its trailing metadata are there afterwards."""
    said: dict[str, str] = {}
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield said
    assert caught.value.code() in codes
    said.update(caught.value.trailing_metadata() or ())


class Held(DoubleRunner):
    """Keeps its first batch until it is released; `batches` are all that it was given to compute since it started."""

    def __init__(self, version: str, engine: Obliging) -> None:
        super().__init__(version, engine)
        self.batches: list[Rows] = []
        self.release: Callable[[], None]

    async def start(self, observer: Any) -> None:
        await super().start(observer)
        compute = self.executor.run

        def run(rows: Rows, expected_s: float, done: Any, _deadline: float = inf, _trace: object = None) -> None:
            self.batches.append(rows)
            if len(self.batches) == 1:
                self.release = lambda: compute(rows, expected_s, done)
            else:
                compute(rows, expected_s, done)

        self.executor.run = run  # type: ignore[method-assign]


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_a_client_that_cancels_or_whose_time_is_up_cancels_its_job(bench: CallBench) -> None:
    async def ask() -> None:
        async with Open(bench) as entrance:
            call = entrance.infer()
            await entrance.until_held()
            call.cancel()
            await until(lambda: bench.runner.jobs[0].cancelled)
            async with refused(grpc.StatusCode.DEADLINE_EXCEEDED):
                await entrance.infer(timeout_s=0.3)
            await until(lambda: bench.runner.jobs[1].cancelled)

    asyncio.run(ask())
    assert bench.counted() == {"cancelled": 2}


def test_the_clients_deadline_is_the_requests_and_the_nearer_one_counts(bench: CallBench) -> None:
    async def ask() -> None:
        async with Open(bench) as entrance:
            calls = [
                entrance.infer(timeout_s=50),
                entrance.infer(timeout_s=50, headers={"x-request-deadline-ms": "20000"}),
            ]
            await entrance.until_held(2)
            first, second = sorted(job.deadline - time.monotonic() for job in bench.runner.jobs)
            assert 10 < first <= 20
            assert 40 < second <= 51, "gRPC rounds up"
            for _ in calls:
                bench.runner.finish([0.5])
            await asyncio.gather(*calls)

    asyncio.run(ask())


def test_an_overloaded_server_says_when_to_come_back(bench: CallBench) -> None:
    async def ask() -> dict[str, str]:
        bench.runner.refusal = Overloaded(2.5)
        async with Open(bench) as entrance, refused(grpc.StatusCode.RESOURCE_EXHAUSTED) as said:
            await entrance.infer()
        return said

    said = asyncio.run(ask())
    assert (said["retry-after"], said["x-error-code"]) == ("3", "overloaded")
    assert said["grpc-retry-pushback-ms"] == "3000"


def test_a_client_that_retries_waits_as_long_as_the_server_says(bench: CallBench) -> None:
    """By itself it would wait for longer than it has."""
    policy = {
        "maxAttempts": 2,
        "initialBackoff": "500s",
        "maxBackoff": "500s",
        "backoffMultiplier": 1,
        "retryableStatusCodes": ["RESOURCE_EXHAUSTED"],
    }
    config = json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": policy}]})

    async def ask() -> list[float]:
        bench.runner.refusal = Overloaded(0.1)
        async with Open(bench, policy=config) as entrance:
            call = entrance.infer()
            await until(lambda: bench.counted("none") == {"overloaded": 1})
            bench.runner.refusal = None
            await entrance.until_held()
            bench.runner.finish([0.5])
            return list((await call).outputs[0].contents.fp32_contents)

    assert asyncio.run(ask()) == [0.5]


def test_a_request_whose_client_gave_up_is_not_computed(bench: CallBench) -> None:
    """It waits behind a batch until then."""

    async def ask() -> list[Rows]:
        runner = Held("v1", Obliging())
        bench.handler._entrance = Entrance(routed(await started(runner)), bench.observers, bench.ids)
        async with Open(bench, runner.card) as entrance:
            first = entrance.infer(row=(1, 0))
            await until(lambda: runner.batches)
            async with refused(grpc.StatusCode.DEADLINE_EXCEEDED):
                await entrance.infer(timeout_s=0.3, row=(2, 0))
            await until(lambda: len(entrance.server._under_way) == 1)
            last = entrance.infer(row=(3, 0))
            await until(lambda: runner.waiting_rows == 2)
            runner.release()
            await asyncio.gather(first, last)
        await runner.drain()
        return runner.batches

    assert [rows.tolist() for rows in asyncio.run(ask())] == [[[1, 0]], [[3, 0]]]


def test_what_is_larger_than_allowed_is_refused(bench: CallBench) -> None:
    async def ask() -> None:
        async with Open(bench, max_message_bytes=1024) as entrance:
            async with refused(grpc.StatusCode.RESOURCE_EXHAUSTED):
                await entrance.infer(row=[1.0] * 1024)
            async with refused(grpc.StatusCode.RESOURCE_EXHAUSTED):
                await entrance.infer(headers={"x-unit-id": "u" * 2 * LimitSettings().max_header_bytes})

    asyncio.run(ask())
    assert (bench.counted(), bench.counted("none")) == ({}, {})


def test_without_a_limit_of_its_own_a_message_may_be_as_long_as_a_body(bench: CallBench) -> None:
    floats = LimitSettings().max_body_bytes // 4

    async def ask() -> None:
        async with Open(bench) as entrance:
            async with refused(grpc.StatusCode.INVALID_ARGUMENT):
                await entrance.infer(row=[1.0] * (floats - 1000))
            async with refused(grpc.StatusCode.RESOURCE_EXHAUSTED):
                await entrance.infer(row=[1.0] * (floats + 1000))

    asyncio.run(ask())


def test_a_version_that_is_not_ready_is_unavailable_and_a_failing_model_internal(bench: CallBench) -> None:
    async def ask() -> None:
        async with Open(bench) as entrance:
            bench.runner.refusal = NotReady("not yet")
            async with refused(grpc.StatusCode.UNAVAILABLE):
                await entrance.infer()
            bench.runner.refusal = None
            call = entrance.infer()
            await entrance.until_held()
            bench.runner.finish(error=ModelFailure(0, "boom in /secret/path"))
            async with refused(grpc.StatusCode.INTERNAL) as said:
                await call
            assert "secret" not in str(said)

    asyncio.run(ask())


def test_more_requests_at_once_than_allowed_are_refused(bench: CallBench) -> None:
    async def ask() -> None:
        async with Open(bench, max_concurrent_requests=1) as entrance:
            call = entrance.infer()
            await entrance.until_held()
            async with refused(grpc.StatusCode.RESOURCE_EXHAUSTED):
                await entrance.infer()
            bench.runner.finish([0.5])
            await call

    asyncio.run(ask())


@pytest.mark.parametrize("silent", [True, False], ids=["say nothing", "have asked"])
def test_where_all_connections_are_taken_a_client_is_refused_at_once_until_one_ends(
    bench: CallBench, silent: bool
) -> None:
    async def ask() -> None:
        async with Open(bench, max_connections=2) as entrance, contextlib.AsyncExitStack() as opened:
            if silent:
                taken = [socket.create_connection(("127.0.0.1", entrance.port)) for _ in range(2)]
            else:
                for _ in range(2):
                    channel = grpc.aio.insecure_channel(f"127.0.0.1:{entrance.port}", options=entrance.options)
                    await opened.enter_async_context(channel)
                    await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)
            async with refused(grpc.StatusCode.UNAVAILABLE), asyncio.timeout(20):
                await entrance.health()
            if silent:
                for connection in taken:
                    connection.close()
            await opened.aclose()
            health = health_pb2_grpc.HealthStub(entrance.channel)
            answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=20, wait_for_ready=True)
            assert answer.status == STATUSES.SERVING

    asyncio.run(ask())


def test_stopping_answers_what_was_accepted_and_refuses_the_rest(bench: CallBench) -> None:
    async def ask() -> None:
        async with Open(bench) as entrance:
            call = entrance.infer()
            await entrance.until_held()
            stopping = asyncio.create_task(entrance.server.stop())
            await until(lambda: not listens(entrance.port))
            async with refused(grpc.StatusCode.UNAVAILABLE) as said:
                await entrance.infer()
            assert said["x-error-code"] == "stopping"
            assert await entrance.health() == STATUSES.NOT_SERVING
            assert not stopping.done()
            bench.runner.finish([0.5])
            assert list((await call).outputs[0].contents.fp32_contents) == [0.5]
            await stopping

    asyncio.run(ask())
    assert (bench.counted(), bench.counted("none")) == ({"answered": 1}, {"stopping": 1})


def test_a_stop_has_its_limit_and_what_is_given_up_then_may_be_asked_again(bench: CallBench) -> None:
    async def ask() -> None:
        async with Open(bench, drain_s=0.2) as entrance:
            call = entrance.infer()
            await entrance.until_held()
            await entrance.server.stop()
            async with refused(grpc.StatusCode.UNAVAILABLE):
                await call

    asyncio.run(ask())
    assert bench.runner.jobs[0].cancelled
    assert bench.counted() == {"cancelled": 1}


def test_a_client_that_watches_does_not_hold_up_a_stop(bench: CallBench) -> None:
    async def watch() -> None:
        async with Open(bench, drain_s=60) as entrance:
            stream = health_pb2_grpc.HealthStub(entrance.channel).Watch(health_pb2.HealthCheckRequest())
            assert (await stream.read()).status == STATUSES.SERVING
            async with asyncio.timeout(20), refused(grpc.StatusCode.UNAVAILABLE):
                await entrance.server.stop()
                while True:
                    assert (await stream.read()).status == STATUSES.NOT_SERVING

    asyncio.run(watch())


def test_health_is_what_readiness_says_at_that_moment(bench: CallBench) -> None:
    async def ask() -> list[int]:
        async with Open(bench) as entrance:
            seen = []
            for entrance.ready in (True, False, True, False):
                seen += [await entrance.health(service) for service in ("", SERVICE)]
            return seen

    serving, not_serving = STATUSES.SERVING, STATUSES.NOT_SERVING
    assert asyncio.run(ask()) == [serving, serving, not_serving, not_serving] * 2


@pytest.mark.parametrize("service", ["", SERVICE], ids=["the server", "the service"])
def test_who_watches_health_is_told_of_every_change(bench: CallBench, service: str) -> None:
    """Each is made when the one before was seen, and nobody asks meanwhile."""

    async def watch() -> list[int]:
        async with Open(bench) as entrance, asyncio.timeout(20):
            stream = health_pb2_grpc.HealthStub(entrance.channel).Watch(health_pb2.HealthCheckRequest(service=service))
            seen = []
            for ready in (False, True, False):
                seen.append((await stream.read()).status)
                entrance.ready = ready
            seen.append((await stream.read()).status)
            stream.cancel()
            return seen

    assert asyncio.run(watch()) == [STATUSES.SERVING, STATUSES.NOT_SERVING] * 2


async def left_of(*kinds: type, but: int = 0) -> list[object]:
    """All objects of these kinds that still exist when the server, which ends a call after its answer, had its time."""
    for _ in range(50):
        if len(of_kinds(*kinds)) <= but:
            break
        await asyncio.sleep(0.02)
    return of_kinds(*kinds)


@pytest.mark.parametrize("ending", ["scores", "failure", "left", "late", "refused", "bad", "stopping"])
def test_nothing_of_a_request_is_left_to_the_garbage_collector(bench: CallBench, ending: str) -> None:
    async def ask(entrance: Open) -> None:
        bench.runner.refusal = Overloaded(1.0) if ending == "refused" else None
        entrance.server._stopping = ending == "stopping"
        call = entrance.infer(
            0.1 if ending == "late" else 20, headers={"x-environment": "moon" if ending == "bad" else ""}
        )
        if ending in ("scores", "failure", "left"):
            await entrance.until_held()
        if ending == "left":
            call.cancel()
        elif ending in ("scores", "failure"):
            bench.runner.finish([0.5], ModelFailure(0, "no") if ending == "failure" else None)
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
            await call
        await until(lambda: not entrance.server._under_way)
        bench.runner.jobs.clear()
        bench.runner.refusal = None
        bench.forget()

    async def ask_often() -> list[object]:
        async with Open(bench) as entrance:
            for _ in range(5):
                await ask(entrance)
            return await left_of(Call, Prediction, GrpcExchange, CONTEXT)

    with uncollected():
        assert asyncio.run(ask_often()) == []


@pytest.mark.parametrize(
    "method", ["grpc.health.v1.Health/Check", "grpc.health.v1.Health/Watch", f"{SERVICE}/ModelReady"]
)
def test_nothing_is_left_of_what_is_no_message(bench: CallBench, method: str) -> None:
    """The error of the parser knows the call, which has the message: megabytes of it, for who may not even predict."""

    async def ask_often() -> list[object]:
        async with Open(bench) as entrance:
            for _ in range(5):
                async with refused(grpc.StatusCode.INVALID_ARGUMENT):
                    await entrance.channel.unary_unary(f"/{method}")(bytes(1_000), timeout=20)
            return await left_of(DecodeError, CONTEXT)

    with uncollected():
        assert asyncio.run(ask_often()) == []


@pytest.mark.parametrize("method", ["ModelInfer", "ModelReady"])
def test_nothing_is_left_of_a_message_that_does_not_come(bench: CallBench, method: str) -> None:
    """The timeout that the refusal was raised in knows the call's frames, and they the refusal."""

    async def ask_often() -> list[object]:
        async with Open(bench) as entrance:
            entrance.server._request_s = 0.05
            for _ in range(5):
                call = entrance.channel.stream_unary(f"/{SERVICE}/{method}")(timeout=20)
                async with refused(grpc.StatusCode.DEADLINE_EXCEEDED) as said:
                    await call
                assert said["x-error-code"] == "request_timeout"
            return await left_of(Problem, TimeoutError, CONTEXT, but=before)

    with uncollected():
        before = len(of_kinds(Problem))
        assert len(asyncio.run(ask_often())) <= before


def test_a_port_that_somebody_listens_at_is_seen_even_if_it_could_be_shared(bench: CallBench) -> None:
    async def ask() -> None:
        async with Open(bench) as entrance:
            with pytest.raises(OSError, match="in use"):
                refuse_taken_port(GrpcSettings(port=entrance.port))

    asyncio.run(ask())
    refuse_taken_port(GrpcSettings(port=free_port()))


async def state_while_pinging(opened: Open, *, until_gone: bool) -> Any:
    """What becomes of an idle connection whose client pings each second: its state after 5 s, or when it is gone."""
    opened.options += [("grpc.keepalive_time_ms", 1000), ("grpc.keepalive_permit_without_calls", 1)]
    opened.options += [("grpc.http2.max_pings_without_data", 0)]
    async with opened:
        assert await opened.health() == STATUSES.SERVING
        with contextlib.suppress(TimeoutError):
            ready = grpc.ChannelConnectivity.READY
            await asyncio.wait_for(opened.channel.wait_for_state_change(ready), 60 if until_gone else 5)
        return opened.channel.get_state()


def test_how_often_a_client_may_ping_is_a_setting(bench: CallBench) -> None:
    async def scenario() -> tuple[Any, Any]:
        patient, strict = Open(bench), Open(bench, min_ping_interval_s=300)
        both = state_while_pinging(patient, until_gone=False), state_while_pinging(strict, until_gone=True)
        return await asyncio.gather(*both)

    kept, gone = asyncio.run(scenario())
    assert kept is grpc.ChannelConnectivity.READY
    assert gone is not grpc.ChannelConnectivity.READY, "or this test could not fail"
