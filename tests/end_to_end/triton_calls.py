"""What an unmodified `tritonclient` does, in a process of its own: two modules of one protocol cannot share a process,
as protobuf has a single table of message names."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Infer:
    """One request; `tensors` are name, datatype and values, sent as raw contents."""

    tensors: Sequence[tuple[str, str, Any]]
    model: str = "customers"
    version: str = ""
    outputs: Sequence[str] = ()
    class_count: int = 0
    id: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    timeout_s: float | None = 20


@dataclass(frozen=True)
class Answer:
    """What came back: `code` is the name of the status."""

    code: str
    message: str = ""
    version: str = ""
    id: str = ""
    outputs: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)


def infer(address: str, calls: Sequence[Infer]) -> list[Answer]:
    """One after another."""
    import tritonclient.grpc as triton

    with triton.InferenceServerClient(address) as client:
        return [_answer(lambda call=call: client.infer(**_arguments(call))) for call in calls]


def infer_at_once(address: str, calls: Sequence[Infer]) -> list[Answer]:
    """All at once, with the asyncio client."""
    import tritonclient.grpc.aio as triton
    from tritonclient.utils import InferenceServerException

    async def one(client: Any, call: Infer) -> Answer:
        try:
            return _read(await client.infer(**_arguments(call)))
        except InferenceServerException as error:
            return _failure(error)

    async def every() -> list[Answer]:
        async with triton.InferenceServerClient(address) as client:
            return list(await asyncio.gather(*(one(client, call) for call in calls)))

    return asyncio.run(every())


def stay_idle(address: str, seconds: float) -> list[str]:
    """The states of a connection that is idle between two calls, and pings as Triton's documentation has it."""
    import tritonclient.grpc as triton

    pinging = triton.KeepAliveOptions(
        keepalive_time_ms=1000,
        keepalive_timeout_ms=20_000,
        keepalive_permit_without_calls=True,
        http2_max_pings_without_data=0,
    )
    states: list[str] = []
    with triton.InferenceServerClient(address, keepalive_options=pinging) as client:
        assert client.is_server_live()
        client._channel.subscribe(lambda state: states.append(state.name))
        time.sleep(seconds)
        assert client.is_server_live()
    return states


def describe(address: str) -> dict[str, Any]:
    """Health and metadata."""
    import tritonclient.grpc as triton

    with triton.InferenceServerClient(address) as client:
        return {
            "live": client.is_server_live(),
            "ready": client.is_server_ready(),
            "model_ready": client.is_model_ready("customers"),
            "version_ready": client.is_model_ready("customers", "v2"),
            "alias_ready": client.is_model_ready("a"),
            "server": client.get_server_metadata(as_json=True),
            "model": client.get_model_metadata("customers", as_json=True),
            "unknown": _answer(lambda: client.get_model_metadata("cats")).code,
        }


def fields() -> dict[str, list[tuple[int, str, int, bool]]]:
    """Every field of the client's messages: number, name, type and whether it repeats."""
    from tritonclient.grpc import service_pb2

    return fields_of(service_pb2)


def fields_of(module: Any) -> dict[str, list[tuple[int, str, int, bool]]]:
    found, messages = {}, list(module.DESCRIPTOR.message_types_by_name.values())
    for message in messages:
        found[message.full_name] = [(one.number, one.name, one.type, one.is_repeated) for one in message.fields]
        messages.extend(message.nested_types)
    return found


def _arguments(call: Infer) -> dict[str, Any]:
    import tritonclient.grpc as triton

    inputs = []
    for name, datatype, values in call.tensors:
        inputs.append(triton.InferInput(name, list(values.shape), datatype))
        inputs[-1].set_data_from_numpy(values)
    return {
        "model_name": call.model,
        "inputs": inputs,
        "model_version": call.version,
        "outputs": [triton.InferRequestedOutput(name, call.class_count) for name in call.outputs] or None,
        "request_id": call.id,
        "headers": call.headers or None,
        "client_timeout": call.timeout_s,
    }


def _answer(ask: Any) -> Answer:
    from tritonclient.utils import InferenceServerException

    try:
        return _read(ask())
    except InferenceServerException as error:
        return _failure(error)


def _failure(error: Any) -> Answer:
    return Answer(error.status().removeprefix("StatusCode."), error.message())


def _read(result: Any) -> Answer:
    response = result.get_response()
    return Answer(
        "OK",
        version=response.model_version,
        id=response.id,
        outputs={output.name: np.asarray(result.as_numpy(output.name)).tolist() for output in response.outputs},
        parameters={
            name: getattr(one, one.WhichOneof("parameter_choice")) for name, one in response.parameters.items()
        },
    )
