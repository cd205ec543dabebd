"""What an unmodified KServe client does; a program for a Python that has one (see `test_open_inference_clients`).

In: on standard input, JSON with `url`, `model`, `columns` (name: values) and `rows`. Out: JSON, what the client said.
It imports nothing of this project, which that Python does not have.
"""

import asyncio
import json
import sys
from typing import Any


async def call(url: str, model: str, rows: list[list[float]], columns: dict[str, list[float]]) -> dict[str, Any]:
    """What the client of each version of the protocol was told."""
    return {"v1": await call_v1(url, model, rows), "v2": await call_v2(url, model, rows, columns)}


async def call_v1(url: str, model: str, rows: list[list[float]]) -> dict[str, Any]:
    """Health, predictions for rows by the name of a version and by the model's own, and refusals."""
    import httpx
    from kserve import InferenceRESTClient, RESTConfig

    told: dict[str, Any] = {}
    async with InferenceRESTClient(RESTConfig(protocol="v1")) as client:
        told["live"] = await client.is_server_live(url)
        body = {"instances": rows}
        for name, headers in ((model, {}), ("customers", {"X-Model-Version": model})):
            told[name] = {
                "ready": await client.is_model_ready(url, name),
                **await client.infer(url, body, model_name=name, headers=headers),
            }
        for name, refused in (
            ("unknown ready", client.is_model_ready(url, "cats")),
            ("unknown", client.infer(url, body, model_name="cats")),
            ("too narrow", client.infer(url, {"instances": [[1.0]]}, model_name=model)),
        ):
            try:
                told[name] = await refused
            except httpx.HTTPStatusError as error:
                told[name] = str(error)
    return told


async def call_v2(url: str, model: str, rows: list[list[float]], columns: dict[str, list[float]]) -> dict[str, Any]:
    """Health, predictions in both layouts, in JSON and in binary, and a refusal."""
    import httpx
    import numpy as np
    from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
    from kserve.protocol.infer_type import RequestedOutput

    def tensor(name: str, values: Any, *, binary: bool) -> Any:
        made = InferInput(name, list(values.shape), "FP32")
        made.set_data_from_numpy(values, binary_data=binary)
        return made

    def matrix(*, binary: bool = False) -> Any:
        return [tensor("input", np.array(rows, np.float32), binary=binary)]

    made = [tensor(name, np.array(values, np.float32), binary=False) for name, values in columns.items()]
    classes = [RequestedOutput("classes", {"binary_data": True})]
    all_binary = {"binary_data_output": True}
    requests = {
        "json": InferRequest(model, matrix(), request_id="7"),
        "binary": InferRequest(model, matrix(binary=True), request_id="7"),
        "columns": InferRequest(model, made, request_id="7"),
        "binary outputs": InferRequest(model, matrix(), request_id="7", parameters=all_binary),
        "one output": InferRequest(model, matrix(binary=True), request_id="7", request_outputs=classes),
    }
    told: dict[str, Any] = {}
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        told["live"] = await client.is_server_live(url)
        told["ready"] = await client.is_server_ready(url)
        told["model ready"] = await client.is_model_ready(url, model)
        told["unknown ready"] = await client.is_model_ready(url, "cats")
        for name, request in requests.items():
            answer = await client.infer(url, request, model_name=model)
            outputs = {output.name: output.as_numpy().tolist() for output in answer.outputs}
            told[name] = {"id": answer.id, "reason": answer.parameters["reason"], "outputs": outputs}
        try:
            await client.infer(url, requests["json"], model_name="cats")
        except httpx.HTTPStatusError as error:
            told["refused"] = str(error)
    return told


if __name__ == "__main__":
    print(json.dumps(asyncio.run(call(**json.load(sys.stdin)))))
