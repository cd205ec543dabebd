"""A version that a server is to have: found among those that it knows, or loaded while it serves.

In: where it came from, and by what it is known to be the very one. Out: its name at that server, ready, and with right
numbers. No traffic is touched.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shokado.client import operations
from shokado.client.answers import Version
from shokado.client.operations import LOAD_TIMEOUT_S
from shokado.lifecycle.delivery.registry_aliases import registered_of
from shokado.lifecycle.delivery.smoke_test import SmokeOutcome, SmokeTest, SmokeTestOrder
from shokado.lifecycle.errors import DeliveryRefused, GatewayAway
from shokado.lifecycle.rollout.gateway_client import GatewayClient

LOOK_EVERY_S = 0.5
"""How often it is looked whether a load that somebody else began has ended."""


@dataclass(frozen=True, slots=True)
class WantedVersion:
    """What is wanted.

    Attributes:
        source: an exact address of the registry, or a tag of the BentoML store.
        label: its name, unless the server has another version under that.
        digest: of the artefact; None where it is not known yet.
    """

    source: str
    label: str
    digest: str | None = None

    def is_it(self, version: Version) -> bool:
        """Whether a version that a server lists is the wanted one."""
        if self.digest is not None:
            return version.digest == self.digest
        if version.quantized is not None or version.source is None:
            return False
        return self.source == version.source.uri

    @property
    def is_own_tag(self) -> bool:
        """Whether it is named by a tag of the store alone, and to be called as that says."""
        return self.digest is None and "/" not in self.source and self.source.endswith(f":{self.label}")

    def free_label(self, taken: set[str]) -> str:
        """The label, the registry's number, or one with a digest of the source: the first that is not taken."""
        registered = registered_of(self.source)
        labels = [self.label, *([f"v{registered.version}"] if registered is not None else [])]
        other = f"{self.label[:50]}-{hashlib.sha256(self.source.encode()).hexdigest()[:8]}"
        return next((label for label in labels if label not in taken), other)


def bring(gateway: GatewayClient, wanted: WantedVersion, say: Callable[[str], None], why: str) -> Version:
    """Have the server get the version ready, unless it has it.

    Raises `DeliveryRefused` where another artefact came of the same source, and `GatewayRefused` with the server's
    reason.
    """
    listed = _settled(gateway, wanted, say)
    known = next((version for version in listed if wanted.is_it(version)), None)
    if known is not None and known.state != "unloaded":
        return known
    if known is not None:
        say(f"load {known.version} again at {gateway.url}")
        return gateway.ask(operations.load(known.version, why=why)).version
    taken = {version.version for version in listed} | {alias for version in listed for alias in version.aliases}
    # What a tag names is what it is to be under its own name: where it is that already, the server loads nothing.
    is_own = wanted.is_own_tag and any(wanted.source == f"{one.model}:{wanted.label}" for one in listed)
    label = wanted.label if is_own else wanted.free_label(taken)
    say(f"load {wanted.source} as {label} at {gateway.url}")
    loaded = gateway.ask(operations.load(label, wanted.source, why=why)).version
    if wanted.digest not in (None, loaded.digest):
        gateway.ask(operations.unload(label, why="it is another artefact"))
        raise DeliveryRefused(
            f"{wanted.source} became another artefact at {gateway.url} than where it was tried ({loaded.digest} and "
            f"not {wanted.digest}): do both servers have the same registry, and the same packages? It was unloaded."
        )
    return loaded


def _settled(gateway: GatewayClient, wanted: WantedVersion, say: Callable[[str], None]) -> Sequence[Version]:
    """The versions, once what comes of the wanted source is not on its way any more, as who asked for it was killed."""
    end, said = time.monotonic() + LOAD_TIMEOUT_S, False
    while True:
        listed = gateway.ask(operations.versions()).versions
        loading = [one.version for one in listed if one.loading is not None and one.loading.source == wanted.source]
        if not loading or time.monotonic() > end:
            return listed
        if not said:
            say(f"{', '.join(loading)} is being loaded already at {gateway.url}")
        said = True
        time.sleep(LOOK_EVERY_S)


def require_right_numbers(gateway: GatewayClient, version: Version, environment: str) -> None:
    """Raise `DeliveryRefused` unless the version is ready and scores rows of its card as its framework did."""
    pass_smoke_test(gateway, SmokeTestOrder((version.version,), requests=0, whole=False), environment)


def pass_smoke_test(gateway: GatewayClient, order: SmokeTestOrder, environment: str) -> int:
    """The number of checks, all of which went well.

    Raises `DeliveryRefused` with all that did not, and `GatewayAway` where that says nothing of what is served.
    """
    found = list(SmokeTest(gateway, order).findings())
    failed = [one for one in found if one.outcome is SmokeOutcome.FAILED]
    told = "; ".join(f"{one.what}: {one.text}" for one in failed)
    if any(one.is_away for one in failed):
        raise GatewayAway(f"{environment} does not answer to the end of the smoke test: {told}")
    if failed:
        raise DeliveryRefused(
            f"{', '.join(order.versions) or environment} fails the smoke test in {environment}: {told}",
            f"shokado smoke-test --environment {environment}",
        )
    return len(found)
