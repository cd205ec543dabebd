"""The examples in a server's own description of its API: what each prediction route can be asked, as it says itself."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from shokado.client import Operation
from shokado.lifecycle.errors import SmokeTestRefused
from shokado.lifecycle.rollout.gateway_client import GatewayClient

NATIVE = "/v1/models/predict"
_JSON = "application/json"


@dataclass(frozen=True)
class DescribedExample:
    """A body that a route takes, and the request that sends it; the answer is what was answered, as bytes."""

    path: str
    name: str
    value: Any
    operation: Operation[bytes]


def described_examples(gateway: GatewayClient) -> list[DescribedExample]:
    """Those of all routes of the tag `predictions`. Raises `SmokeTestRefused` where it describes none."""
    content = gateway.ask(Operation("GET", "/openapi.json", lambda response: response.json(), repeatable=True))
    found = [
        example
        for path, methods in content.get("paths", {}).items()
        for method, operation in methods.items()
        if method == "post" and "predictions" in operation.get("tags", ())
        for example in _examples(path, operation)
    ]
    if not found:
        raise SmokeTestRefused(f"{gateway.url}/openapi.json has no examples of predictions: is that another server?")
    return found


def native_rows(examples: Sequence[DescribedExample]) -> list[Any]:
    """The row of the first example of the native route, which any of the versions can score."""
    native = (one.value for one in examples if one.path == NATIVE and isinstance(one.value, dict))
    return [next(native)["instances"][0]]


def _examples(path: str, operation: Mapping[str, Any]) -> Iterator[DescribedExample]:
    given = {"path": {}, "query": {}, "header": {}}  # type: dict[str, dict[str, Any]]
    for parameter in operation.get("parameters", ()):
        known = parameter.get("schema", {}).get("examples") or [parameter.get("example")]
        if known[0] is not None and parameter.get("required"):
            given[parameter["in"]][parameter["name"]] = known[0]
    asked = path.format(**{name: quote(str(value), safe="") for name, value in given["path"].items()})
    for content_type, content in operation["requestBody"]["content"].items():
        for name, example in content.get("examples", {}).items():
            value = example["value"]
            body = value if isinstance(value, str) else json.dumps(value)
            headers = {"Content-Type": content_type, **{one: str(said) for one, said in given["header"].items()}}
            sent = Operation(
                "POST", asked, lambda response: response.content, given["query"], headers, body.encode(), True
            )
            yield DescribedExample(path, name, value, sent)
