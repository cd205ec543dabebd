"""The gate of one process: keys, rates and what was counted, asked by every transport."""

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from configuration.settings import AccessSettings
from shokado.access.decision import Asked, Refused, admit, identify, refuse_other_sites
from shokado.access.forwarding import ForwardedClient, Headers, client_of
from shokado.access.key_watch import KeyWatch
from shokado.access.keys import Role

if TYPE_CHECKING:
    from shokado.access.rates import Rates


logger = logging.getLogger("bentoml.shokado")


_ADVICE = "set access.keys_file, and access.required to true (shokado keys create makes keys)"


class GateOutcome(StrEnum):
    """What became of a request at the gate."""

    ADMITTED = "admitted"
    REFUSED = "refused"


class Gate:
    """Make one per process."""

    def __init__(self, settings: AccessSettings, model: str, root: Path) -> None:
        """`root` is what a relative `keys_file` is looked for in. Raises `KeyFileError`."""
        self.settings = settings
        self.watch = KeyWatch(root / settings.keys_file) if settings.keys_file else None
        self.rates = _rates(settings, model)
        self._by_key: Counter[tuple[str, str]] = Counter()
        self._by_reason: Counter[str] = Counter()
        self._told_unread = False
        self._counting: set[asyncio.Task[Refused | None]] = set()

    @property
    def guards_predictions(self) -> bool:
        """Whether prediction routes have to ask; where not, they need no gate at all."""
        return self.watch is not None or self.rates is not None

    def tell_what_is_open(self) -> None:
        """Warn whoever starts a server without keys. Once, not in each worker."""
        if self.watch is not None:
            return
        words = "there are no keys: predictions are open to everybody, and changes to clients on this machine"
        if self.settings.trusted_proxies:
            logger.warning("%s, but not through access.trusted_proxies; %s", words, _ADVICE)
        else:
            logger.warning("%s; if a proxy on it passes on for others, %s", words, _ADVICE)

    def predictor(self, credential: bytes | None) -> str:
        """The name of the key of a prediction, empty without keys. Raises `Refused`."""
        if self.watch is None:
            return ""
        try:
            return identify(credential, Role.PREDICT, self.watch.ring)
        except Refused as refused:
            self.refused(refused)
            raise

    def enter(self, asked: Asked, needed: Role | None, *, changing: bool) -> str:
        """The name of the key of a control request; no role is needed where everybody may ask. Raises `Refused`."""
        try:
            if changing:
                refuse_other_sites(asked, self.settings.cors.origins)
            if needed is None:
                return ""
            ring = self.watch.ring if self.watch is not None else None
            return admit(asked, needed, ring, self.settings.trusted_proxies)
        except Refused as refused:
            self.refused(refused)
            raise

    def address_of(self, peer: str, headers: Headers) -> str:
        """What rates know a client by; empty when no rate asks for it."""
        if self.rates is None or not self.rates.by_address:
            return ""
        return self.client_of(peer, headers).counted_as

    def client_of(self, peer: str, headers: Headers) -> ForwardedClient:
        """Who asks, through the proxies that are trusted."""
        client = client_of(peer, headers, self.settings.trusted_proxies)
        if client.unread and not self._told_unread:
            self._told_unread = True
            words = "a trusted proxy says whom it passes on for in words that cannot be read, and counts itself: %.200r"
            logger.warning(words, client.unread)
        return client

    def admitted(self, key: str) -> None:
        """Count a request that goes on to be answered."""
        if key:
            self._by_key[key, GateOutcome.ADMITTED] += 1

    def refused(self, refused: Refused, key: str = "") -> None:
        """Count a request that is refused."""
        self._by_reason[refused.code] += 1
        if name := key or refused.key:
            self._by_key[name, GateOutcome.REFUSED] += 1

    async def take(self, key: str, address: str) -> Refused | None:
        """Count a request, where rates are counted; why it is refused, if it is."""
        rates = self.rates
        if rates is None:
            return None
        refused = await rates.take_shared(key, address) if rates.shared else rates.take(key, address)
        if refused is not None:
            self.refused(refused, key)
        return refused

    def note_bad_head(self, peer: str) -> None:
        """Count what is no request against the address that it came from; call on the event loop."""
        rates, address = self.rates, self.address_of(peer, ())
        if rates is None or not address:
            return
        if rates.shared:
            task = asyncio.create_task(rates.take_shared("", address))
            self._counting.add(task)
            task.add_done_callback(self._counting.discard)
        else:
            rates.take("", address)

    def take_counts(self) -> tuple[Mapping[tuple[str, str], int], Mapping[str, int]]:
        """Requests by (key, outcome) and refusals by reason, since this was last asked."""
        taken = self._by_key, self._by_reason
        self._by_key, self._by_reason = Counter(), Counter()
        return taken


def _rates(settings: AccessSettings, model: str) -> "Rates | None":
    if not settings.rates.on:
        return None
    # With it come limits and redis, which take a tenth of a server's start.
    from shokado.access.rates import Rates

    return Rates(settings.rates, model)
