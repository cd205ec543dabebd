"""`python -m load_tests.demo_client`: ask a running server for predictions, and show who answered and how fast.

Rows are mixed out of the examples that the server describes itself with, so that they look like those of the model it
serves. Exit code 0 when every request got its prediction, 1 when some did not, 2 when there is nothing to ask.
"""

import asyncio
import collections
import json
import math
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from load_tests.traffic.server_address import DEFAULT_PORT, server_url
from shokado.client import NO_RETRIES, AsyncClient, NoAnswer, Operation, ShokadoError

JSON = "application/json"
NATIVE = "/v1/models/predict"
BINS = 12
"""Lines of the histogram: all of it is seen at once."""
BAR_CHARACTERS = 40
"""Width of the longest bar, which a terminal of 80 columns has room for."""
EXAMPLES = """\b
Examples:
  make demo
  make demo ARGS="--endpoint /predict --num-requests 500 --concurrency 8"
  make demo ARGS="--endpoint /v2/models/customers/infer --rows 10 --environment staging"
  make demo ARGS="--unit user-7 --delay 0.1"
"""


class DemoFailed(Exception):
    """The message says why, in words for people."""


@dataclass(frozen=True)
class PredictionPath:
    """A path, and how a body for it is made of rows."""

    path: str
    body_of: Callable[[list[Any]], Any]
    max_rows: int | None = None


@dataclass
class Results:
    """What came back so far. Latencies in milliseconds, of predictions only."""

    statuses: collections.Counter[str] = field(default_factory=collections.Counter)
    versions: collections.Counter[str] = field(default_factory=collections.Counter)
    latencies_ms: list[float] = field(default_factory=list)
    complaints: dict[str, str] = field(default_factory=dict)
    """The first complaint of each status, in the server's words."""


def endpoints_of(description: dict[str, Any]) -> dict[str, Any]:
    """Path to its first JSON example, of all prediction routes in `/openapi.json`."""
    found = {}
    for path, operations in description["paths"].items():
        operation = operations.get("post", {})
        if "predictions" in operation.get("tags", ()):
            examples = operation["requestBody"]["content"].get(JSON, {}).get("examples", {})
            if examples:
                found[path] = next(iter(examples.values()))["value"]
    return found


def find_endpoint(description: dict[str, Any], path: str) -> PredictionPath:
    """The endpoint of a path that may have a name in the place of `{model}` or `{version}`. Raises `DemoFailed`."""
    known = endpoints_of(description)
    for template, example in known.items():
        pattern = "([^/]+)".join(re.escape(part) for part in re.split(r"\{\w+\}", template))
        if re.fullmatch(pattern, path):
            if "{" in path:
                raise DemoFailed(f"put a name in the place of the braces: {path.replace('{', '').replace('}', '')}")
            return _endpoint(path, example)
    raise DemoFailed(f"the server has no predictions at {path}; it has them at:\n  " + "\n  ".join(known))


def _endpoint(path: str, example: dict[str, Any]) -> PredictionPath:
    """How the example holds its rows tells how others are sent."""
    match example:
        case {"features": _}:
            return PredictionPath(path, lambda rows: {"features": rows[0]}, max_rows=1)
        case {"instances": _}:
            return PredictionPath(path, lambda rows: {"instances": rows})
        case {"dataframe_split": {"columns": columns}}:
            return PredictionPath(path, lambda rows: {"dataframe_split": {"columns": columns, "data": rows}})
        case {"inputs": [_, _, *_] as columns}:
            return PredictionPath(path, lambda rows: {"inputs": _columns(columns, rows)})
        case {"inputs": [{"shape": shape} as tensor]}:
            return PredictionPath(path, lambda rows: {"inputs": [_tensor(tensor, shape, rows)]})
    raise DemoFailed(f"this client does not know how {path} takes its rows")


def _tensor(tensor: dict[str, Any], shape: list[int], rows: list[Any]) -> dict[str, Any]:
    values = [value for row in rows for value in (row if isinstance(row, list) else [row])]
    return {**tensor, "shape": [len(rows), *shape[1:]], "data": values}


def _columns(tensors: list[dict[str, Any]], rows: list[Any]) -> list[dict[str, Any]]:
    """A tensor for each feature, in their order; truth values are numbers in rows."""
    made = []
    for index, tensor in enumerate(tensors):
        values = [row[index] for row in rows]
        data = list(map(bool, values)) if tensor["datatype"] == "BOOL" else values
        made.append({**tensor, "shape": [len(rows)], "data": data})
    return made


def rows_of(description: dict[str, Any]) -> list[Any]:
    """The rows in the native route's examples, each a list of values or a text. Raises `DemoFailed`."""
    operation = description["paths"].get(NATIVE, {}).get("post", {})
    examples = operation.get("requestBody", {}).get("content", {}).get(JSON, {}).get("examples", {})
    rows = [row for example in examples.values() for row in example["value"].get("instances", ())]
    if not rows:
        raise DemoFailed("the server's description has no example rows")
    return [list(row.values()) if isinstance(row, dict) else row for row in rows]


def draw_row(random: Random, rows: list[Any]) -> Any:
    """A row like the others: each value is that of one of them."""
    if not isinstance(rows[0], list):
        return random.choice(rows)
    return [random.choice(rows)[column] for column in range(len(rows[0]))]


def percentile(values: list[float], share: float) -> float:
    """Nearest rank: the smallest value that at least this share of all values does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def histogram(values: list[float]) -> list[tuple[float, float, int]]:
    """(from, to, count) of bins whose width grows by the same factor each, as latencies have a long tail."""
    low, high = min(values), max(values)
    if high <= low:
        return [(low, high, len(values))]
    factor = math.log(high / low) / BINS
    counts = collections.Counter(min(BINS - 1, int(math.log(value / low) / factor)) for value in values)
    return [(low * math.exp(factor * at), low * math.exp(factor * (at + 1)), counts[at]) for at in range(BINS)]


def question(path: str, body: Any) -> Operation[str]:
    """A request whose answer is read for the version that gave it."""
    content = json.dumps(body).encode()
    return Operation("POST", path, _version_of, headers={"Content-Type": JSON}, content=content, repeatable=True)


def _version_of(response: httpx.Response) -> str:
    version: str = response.headers.get("x-model-version", "not told")
    return version


async def ask(
    client: AsyncClient, questions: list[Operation[str]], concurrency: int, delay_s: float,
    answered: Callable[[], None],
) -> Results:  # fmt: skip
    """Send the questions from so many users, each of whom rests for `delay_s` after an answer."""
    outcome = Results()
    left = iter(questions)

    async def one_user() -> None:
        for one in left:
            await _ask_once(client, one, outcome)
            answered()
            if delay_s:
                await asyncio.sleep(delay_s)

    await asyncio.gather(*(one_user() for _ in range(concurrency)))
    return outcome


async def _ask_once(client: AsyncClient, one: Operation[str], outcome: Results) -> None:
    began = time.perf_counter()
    try:
        version = await client.send(one)
    except ShokadoError as error:
        status = "no answer" if isinstance(error, NoAnswer) else str(error.status)
        outcome.statuses[status] += 1
        outcome.complaints.setdefault(status, f"{error.code} {error.message}".strip()[:300])
        return
    outcome.latencies_ms.append((time.perf_counter() - began) * 1000)
    outcome.statuses["200"] += 1
    outcome.versions[version] += 1


def show(console: Console, outcome: Results, seconds: float) -> None:
    """The summary: counts per version and status, percentiles, and a histogram."""
    total = outcome.statuses.total()
    for title, counts in (("version", outcome.versions), ("status", outcome.statuses)):
        table = Table(title, "requests", "share")
        for name, count in counts.most_common():
            table.add_row(name, f"{count:,}", f"{count / total:.1%}")
        console.print(table)
    for status, words in outcome.complaints.items():
        console.print(f"{status}: {words}", markup=False)
    console.print(f"{total:,} requests in {seconds:.1f} s: {total / seconds:,.0f} a second")
    latencies = outcome.latencies_ms
    if not latencies:
        return
    shown = "  ".join(f"p{share} {percentile(latencies, share / 100):.1f} ms" for share in (50, 95, 99))
    console.print(f"latency  {shown}  mean {statistics.mean(latencies):.1f} ms")
    bins = histogram(latencies)
    most = max(count for _, _, count in bins)
    for low, high, count in bins:
        bar = "█" * math.ceil(BAR_CHARACTERS * count / most)
        console.print(f"{low:9.1f} to {high:7.1f} ms  {bar} {count}", highlight=False)


async def run(
    console: Console, url: str, headers: dict[str, str], path: str, count: int, rows: int, concurrency: int,
    delay_s: float, seed: int,
) -> Results:  # fmt: skip
    """Read the server's description, ask it and show what came of it. Raises `DemoFailed`."""
    limits = httpx.Limits(max_connections=concurrency)
    async with httpx.AsyncClient(headers=headers, limits=limits, trust_env=False) as http:
        # A refusal is to be seen, and no latency is to be that of two attempts.
        client = AsyncClient(url, retries=NO_RETRIES, http=http)
        description = await _description(client)
        endpoint = find_endpoint(description, path)
        if endpoint.max_rows is not None and rows > endpoint.max_rows:
            raise DemoFailed(f"{path} takes one row a request; for more, use --endpoint {NATIVE}")
        known = rows_of(description)
        random = Random(seed)
        bodies = (endpoint.body_of([draw_row(random, known) for _ in range(rows)]) for _ in range(count))
        questions = [question(path, body) for body in bodies]
        with Progress(console=console) as progress:
            task = progress.add_task(path, total=count)
            began = time.perf_counter()
            outcome = await ask(client, questions, concurrency, delay_s, lambda: progress.advance(task))
            seconds = time.perf_counter() - began
    show(console, outcome, seconds)
    return outcome


async def _description(client: AsyncClient) -> dict[str, Any]:
    try:
        described: Operation[dict[str, Any]] = Operation("GET", "/openapi.json", httpx.Response.json, repeatable=True)
        return await client.send(described)
    except NoAnswer as error:
        raise DemoFailed(f"cannot reach {client.url}: is it running? Start it with: make serve") from error
    except ShokadoError as error:
        raise DemoFailed(f"{client.url} answers, but with {error.status}: {error.message[:200]}") from error
    except ValueError as error:
        raise DemoFailed(f"{client.url} answers, but not as Shokado does: is that another server?") from error


app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(epilog=EXAMPLES)
def main(  # noqa: PLR0913, PLR0917  # an option each
    host: Annotated[str, typer.Option(help="Name or address of the server.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Where the host names none.")] = DEFAULT_PORT,
    endpoint: Annotated[str, typer.Option(help="A path that answers predictions.")] = NATIVE,
    num_requests: Annotated[int, typer.Option(min=1, max=10_000_000)] = 100,
    delay: Annotated[float, typer.Option(min=0, help="Seconds that a client rests after each answer.")] = 0,
    rows: Annotated[int, typer.Option(min=1, max=100_000, help="Rows of one request.")] = 1,
    concurrency: Annotated[int, typer.Option(min=1, max=1_000, help="Clients that ask side by side.")] = 1,
    api_key: Annotated[str | None, typer.Option(envvar="SHOKADO_API_KEY", help="Sent as X-API-Key.")] = None,
    environment: Annotated[str | None, typer.Option(help="Such as staging: whose split decides.")] = None,
    unit: Annotated[str | None, typer.Option(help="What sticky assignment sticks to.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed sends the same rows.")] = 1,
) -> None:
    """Ask a running server for predictions, and show which versions answered and how fast."""
    headers = {"x-api-key": api_key, "x-environment": environment, "x-unit-id": unit}
    sent = {name: value for name, value in headers.items() if value is not None}
    try:
        url = server_url(host, port)
        outcome = asyncio.run(run(Console(), url, sent, endpoint, num_requests, rows, concurrency, delay, seed))
    except (DemoFailed, ValueError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    if len(outcome.latencies_ms) < num_requests:
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
