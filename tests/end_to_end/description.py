"""A server's description of its API, and whether answers are as it says."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import jsonschema_rs

from tests.support import http
from tests.support.server import Server


@dataclass(frozen=True)
class Description:
    """What a server says of itself."""

    server: Server
    content: Any

    def operations(self, *methods: str) -> Iterator[tuple[str, str, Any]]:
        """Path, method and operation."""
        for path, by_method in self.content["paths"].items():
            for method, operation in by_method.items():
                if method in methods:
                    yield path, method, operation

    def ask(self, method: str, path: str, parameters: dict[tuple[str, str], Any], **how: Any) -> httpx.Response:
        """Ask with values of parameters by place and name."""
        named: dict[str, dict[str, Any]] = {"path": {}, "query": {}, "header": {}}
        for (place, name), value in parameters.items():
            named[place][name] = value
        headers = {**how.pop("headers", {}), **{name: str(value) for name, value in named["header"].items()}}
        url = self.server.url + path.format(**named["path"])
        return http.request(method, url, params=named["query"], headers=headers, timeout=20, **how)

    def check(self, operation: Any, answer: httpx.Response) -> None:
        """The answer's status and content type are declared, and its content is as their schema says."""
        assert str(answer.status_code) in operation["responses"], (answer.status_code, answer.request.url)
        contents = operation["responses"][str(answer.status_code)]["content"]
        content_type = answer.headers["content-type"].split(";")[0]
        assert content_type in contents, answer.request.url
        if content_type == "application/json":
            schema = {**contents[content_type]["schema"], "components": self.content["components"]}
            jsonschema_rs.Draft202012Validator(schema).validate(answer.json())


def examples_of(operation: Any) -> dict[tuple[str, str], Any]:
    """The example of each parameter that has one, or must have one, by place and name."""
    found = {}
    for parameter in operation.get("parameters", ()):
        examples = parameter["schema"].get("examples") or [parameter.get("example")]
        if examples[0] is not None or parameter["required"]:
            found[parameter["in"], parameter["name"]] = examples[0]
    return found
