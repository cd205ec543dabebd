"""A smoke test of a running server: is what it serves what it should be?

    alive, ready -> right numbers of each version -> an answer in each dialect -> the split as configured -> metrics

In: a gateway. Out: findings, one after the other. It changes nothing, and asks as any client does: what it sends is
counted, and marked by its units, which begin with `smoke-test-`.
"""

import json
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

from shokado.client import Conflict, Operation, operations
from shokado.client.answers import Prediction, Split, Version
from shokado.experiments.proportions import chernoff_counts
from shokado.lifecycle.delivery.described_examples import DescribedExample, described_examples, native_rows
from shokado.lifecycle.delivery.known_answers import known_answers
from shokado.lifecycle.errors import GatewayAway, GatewayRefused, LifecycleError
from shokado.lifecycle.rollout.gateway_client import GatewayClient

REQUESTS = 200
"""Requests that show the split: a share of a half that is configured as a fifth is seen for sure."""
FALSE_ALARM = 1e-6
"""Chance that a split which is right is called wrong."""
TRIES = 3
"""How often the split is looked at again that moved meanwhile."""
COUNTED_WITHIN_S = 15.0
"""Workers tell each other their counts every five seconds."""
FALLBACK = "FALLBACK"


class SmokeOutcome(StrEnum):
    OK = "ok"
    FAILED = "failed"
    LEFT_OUT = "left out"
    """It cannot be seen at this address."""


@dataclass(frozen=True, slots=True)
class SmokeFinding:
    """One thing that was looked at; `text` says what was seen."""

    what: str
    outcome: SmokeOutcome
    text: str
    is_away: bool = False
    """Whether it failed because the server did not answer, or not now, which says nothing of what it serves."""


@dataclass(frozen=True, slots=True)
class SmokeTestOrder:
    """What is looked at.

    Attributes:
        versions: which are looked at, by name or alias; empty: all that are ready or should be.
        requests: sent to see the split; 0: it is left out.
        whole: also dialects, split and metrics, and not only health and the versions' numbers.
    """

    versions: tuple[str, ...] = ()
    requests: int = REQUESTS
    whole: bool = True


class SmokeTest:
    """The smoke test of one environment of one gateway."""

    def __init__(
        self,
        gateway: GatewayClient,
        order: SmokeTestOrder = SmokeTestOrder(),
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._gateway = gateway
        self._order = order
        self._clock = clock
        self._sleep = sleep
        self._sent = Counter[str]()
        """Requests that each version has answered."""

    def findings(self) -> Iterator[SmokeFinding]:
        """All of it, as it is found out. Raises `GatewayAway` where nobody answers at all, and `GatewayRefused` where
        the key is not good or a version is none.
        """
        told = self._gateway.ask(operations.versions())
        listed = {one.version: one for one in told.versions}
        chosen = self._chosen(listed)
        before = {one.version: self._counted(one.version) for one in chosen} if self._order.whole else {}
        for path in ("/livez", "/readyz"):
            yield self._looked_at(f"GET {path}", partial(self._health, path))
        for version in chosen if self._order.versions else listed.values():
            if version.state != "unloaded":
                yield _state(version)
        for version in chosen:
            yield self._looked_at(f"numbers of {version.version}", partial(self._numbers, version))
        if self._order.whole:
            # A row of one version may lack what another one takes.
            yield from self._whole(before, [] if told.optional_features else chosen)

    def _whole(self, before: Mapping[str, int], alike: Sequence[Version]) -> Iterator[SmokeFinding]:
        try:
            examples = described_examples(self._gateway)
        except LifecycleError as error:
            yield SmokeFinding("GET /openapi.json", SmokeOutcome.FAILED, str(error))
            return
        for path in dict.fromkeys(one.path for one in examples):
            of_path = [one for one in examples if one.path == path]
            yield self._looked_at(f"POST {path}", partial(self._dialect, of_path))
        yield self._looked_at("split", partial(self._split, self._varied_rows(examples, alike)))
        yield self._looked_at("metrics", partial(self._metrics, before))

    def _chosen(self, listed: Mapping[str, Version]) -> list[Version]:
        if self._order.versions:
            names = dict.fromkeys(self._gateway.version(name)[0] for name in self._order.versions)
            return [listed[name] for name in names]
        return [one for one in listed.values() if one.state != "unloaded"]

    def _looked_at(self, what: str, look: Callable[[], SmokeFinding]) -> SmokeFinding:
        """What a look gives; an answer that is an error is a finding, and no end."""
        try:
            return look()
        except LifecycleError as error:
            return SmokeFinding(what, SmokeOutcome.FAILED, str(error), isinstance(error, GatewayAway))

    def _health(self, path: str) -> SmokeFinding:
        return SmokeFinding(f"GET {path}", SmokeOutcome.OK, _shown(self._gateway.ask(_raw("GET", path))))

    def _numbers(self, version: Version) -> SmokeFinding:
        what = f"numbers of {version.version}"
        known = known_answers(self._gateway, version)
        answer = self._gateway.ask(operations.predict([*known.rows], version=version.version))
        self._sent[answer.version] += 1
        if answer.version != version.version:
            return SmokeFinding(what, SmokeOutcome.FAILED, f"{answer.version} answered in its place ({answer.reason})")
        largest = known.largest_difference(answer.predictions)
        text = f"{len(known.rows)} rows as {known.told_by} says"
        if largest > 1:
            wrong = f"predictions are {largest:.3g} times as far from what {known.told_by} says as they may be"
            return SmokeFinding(what, SmokeOutcome.FAILED, wrong)
        return SmokeFinding(what, SmokeOutcome.OK, f"{text}, largest difference {largest:.0%} of what is allowed")

    def _dialect(self, examples: Sequence[DescribedExample]) -> SmokeFinding:
        what = f"POST {examples[0].path}"
        for one in examples:
            try:
                answered = self._gateway.ask(one.operation)
            except GatewayRefused as refusal:
                # Scores of some models, such as of a text alone, cannot be explained.
                if isinstance(refusal.__cause__, Conflict):
                    return SmokeFinding(what, SmokeOutcome.LEFT_OUT, refusal.__cause__.message)
                raise
            if not answered:
                return SmokeFinding(what, SmokeOutcome.FAILED, f"the answer to the example {one.name} is empty")
        return SmokeFinding(what, SmokeOutcome.OK, f"{len(examples)} example{'s' * (len(examples) > 1)} answered")

    def _split(self, rows: Sequence[Any]) -> SmokeFinding:
        if not self._order.requests:
            return SmokeFinding("split", SmokeOutcome.LEFT_OUT, "no requests were to be sent")
        for _ in range(TRIES):
            before = self._gateway.ask(operations.split())
            answers = [self._asked(rows, number) for number in range(self._order.requests)]
            after = self._gateway.ask(operations.split())
            if _expected(before) == _expected(after):
                return judged_split(before, answers)
        return SmokeFinding("split", SmokeOutcome.FAILED, f"it was changed {TRIES} times while it was looked at")

    def _varied_rows(self, examples: Sequence[DescribedExample], alike: Sequence[Version]) -> list[Any]:
        """Rows that any of the versions takes: as many as are known, since drift is told of what is sent."""
        for version in alike:
            try:
                return [*known_answers(self._gateway, version).rows]
            except LifecycleError:
                continue
        return native_rows(examples)

    def _asked(self, rows: Sequence[Any], number: int) -> Prediction:
        unit = f"smoke-test-{uuid.uuid4().hex[:12]}-{number}"
        answer = self._gateway.ask(operations.predict([rows[number % len(rows)]], unit=unit))
        self._sent[answer.version] += 1
        return answer

    def _counted(self, version: str) -> int:
        try:
            return self._gateway.ask(operations.metrics(version)).since_start.requests
        except LifecycleError:
            return 0

    def _metrics(self, before: Mapping[str, int]) -> SmokeFinding:
        try:
            told = self._gateway.ask(_raw("GET", "/metrics"))
        except LifecycleError as error:
            if "404" in str(error):
                return SmokeFinding(
                    "metrics", SmokeOutcome.LEFT_OUT, "they are each server's own, and not told at this address"
                )
            raise
        missing = [version for version in before if f'version="{version}"' not in told]
        if missing:
            return SmokeFinding("metrics", SmokeOutcome.FAILED, f"GET /metrics tells nothing of {', '.join(missing)}")
        return self._rise_of_counts(before)

    def _rise_of_counts(self, before: Mapping[str, int]) -> SmokeFinding:
        """Whether what was sent is counted. Behind one address, each machine counts its own."""
        workers = self._gateway.ask(operations.versions()).workers or ()
        machines = len({one.machine for one in workers})
        end = self._clock() + COUNTED_WITHIN_S
        while True:
            rises = {version: self._counted(version) - count for version, count in before.items()}
            lacking = [version for version, rise in rises.items() if rise < self._sent[version]]
            if not lacking or machines > 1:
                break
            if self._clock() > end:
                told = ", ".join(f"{rises[one]} of {self._sent[one]} requests of {one}" for one in lacking)
                return SmokeFinding("metrics", SmokeOutcome.FAILED, f"/v1/metrics has counted {told}")
            self._sleep(0.25)
        if machines > 1:
            text = f"told for {', '.join(before)}; each of {machines} machines counts its own requests"
        else:
            text = f"told for {', '.join(before)}; {sum(self._sent.values())} requests were counted"
        return SmokeFinding("metrics", SmokeOutcome.OK, text)


def judged_split(split: Split, answers: Sequence[Prediction]) -> SmokeFinding:
    """Whether versions answered as often as the split says. Pure."""
    expected, seen = _expected(split), Counter(answer.version for answer in answers)
    told = ", ".join(f"{name} {seen[name] / len(answers):.0%} of {share:.0%}" for name, share in expected.items())
    fallen = Counter(answer.version for answer in answers if answer.reason == FALLBACK)
    if fallen:
        return SmokeFinding(
            "split", SmokeOutcome.FAILED, f"{sum(fallen.values())} requests fell back on {', '.join(fallen)}"
        )
    for name in (*expected, *(name for name in seen if name not in expected)):
        low, high = chernoff_counts(expected.get(name, 0.0), len(answers), FALSE_ALARM)
        if not low <= seen[name] <= high:
            wrong = f"{name} answered {seen[name]} of {len(answers)} requests, where {low} to {high} are to be expected"
            return SmokeFinding("split", SmokeOutcome.FAILED, f"{wrong} of {expected.get(name, 0.0):.0%}")
    return SmokeFinding("split", SmokeOutcome.OK, f"{told}, {len(answers)} requests ({split.strategy})")


def _expected(split: Split) -> dict[str, float]:
    """The part of all units that each version gets; a layer's rest is answered by who answers outside."""
    shares = dict(split.shares) if split.enabled else {split.active: 1.0}
    if split.layer is None or not split.enabled:
        return shares
    inside = split.layer["to"] - split.layer["from"]
    found = {name: share * inside for name, share in shares.items()}
    outside = split.layer["outside"]
    return found | {outside: found.get(outside, 0.0) + 1 - inside}


def _raw(method: str, path: str) -> Operation[str]:
    return Operation(method, path, lambda response: response.text, repeatable=True)


def _shown(text: str) -> str:
    try:
        status = json.loads(text).get("status", "ok")
    except (ValueError, AttributeError):
        return "answered"
    return str(status)


def _state(version: Version) -> SmokeFinding:
    what = f"version {version.version}"
    if version.state == "ready":
        return SmokeFinding(what, SmokeOutcome.OK, f"ready, {_source(version)}")
    why = f": {version.failure}" if version.failure else ""
    return SmokeFinding(what, SmokeOutcome.FAILED, f"{version.state}{why}")


def _source(version: Version) -> str:
    return version.source.uri if version.source is not None else "of an unknown source"
