"""What each process of a server does before it serves, and the first one for all of them."""

import gc
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configuration.secret_file import read_secret
from configuration.settings import Placement, Settings, SettingsError, load_settings
from configuration.temporary import share_temporary_folder
from configuration.trace_export import TraceExport, trace_export
from runners.artefacts.artefact import Artefact, ArtefactError
from runners.artefacts.card import Card
from runners.artefacts.configured import card_of_first, find_artefacts, row_format_of
from runners.inputs.rows import RowReader
from shokado.access.gate import Gate
from shokado.access.keys import KeyFileError
from shokado.request_log.hash_key import hash_key
from shokado.request_log.shipping import check_sink
from shokado.transports.express_lane import lane
from shokado.worker.listening import refuse_unfit_address
from shokado.worker.log_format import log_as_json
from shokado.worker.stopping import stops_within_s
from shokado.worker.supervision import refuse_long_folder, supervise
from shokado.worker.time_limit import lift_time_limit

# What Shokado measures, logs and traces itself, per version, BentoML need not do once more for each request.
QUIET: dict[str, Any] = {
    "metrics": {"enabled": False},
    "logging": {"access": {"enabled": False}},
    "tracing": {"excluded_urls": ".*"},
}


@dataclass(frozen=True, slots=True)
class Configured:
    """What a server is started with."""

    settings: Settings
    artefacts: dict[str, Artefact]
    """The artefact of each version."""
    gate: Gate
    secret: bytes | None
    """What seals prediction ids, where it is configured."""
    log_key: bytes
    """What the request log hashes values with."""
    trace_export: TraceExport | None = None
    """Where spans go; None: nowhere, and none are made."""

    @property
    def card(self) -> Card:
        """See `runners.artefacts.configured.card_of_first`."""
        return card_of_first(self.artefacts)

    @property
    def row_format(self) -> RowReader:
        """How requests are read, as the configured versions take them."""
        return row_format_of(self.artefacts, self.settings.limits)


def configured(root: Path) -> Configured:
    """Read everything, relative to the bundle's folder. Exits with one line that says what is wrong with it."""
    try:
        settings = load_settings()
        artefacts = find_artefacts(settings)
        gate = Gate(settings.access, settings.model, root)
        check_sink(settings.log, root)
        secret = read_secret(root, settings.feedback.secret_file)
        log_key = hash_key(settings.log, settings.log_folder(root), root)
        return Configured(settings, artefacts, gate, secret, log_key, trace_export(settings.tracing, root))
    except (SettingsError, ArtefactError, KeyFileError) as error:
        sys.exit(f"shokado: {error}")


def take_over(settings: Settings) -> None:
    """Have done here what BentoML and uvicorn would do otherwise; call it before they make anything."""
    if settings.logging.format == "json":
        log_as_json()
    # Whose word on a client's address is taken is set in `access.trusted_proxies`; uvicorn trusts all of this machine.
    os.environ["FORWARDED_ALLOW_IPS"] = ""
    lift_time_limit()
    # Without routes of its own the lane still bounds connections, judges framing, and ends them on stopping.
    lane.register()


def prepare_server(server: Configured) -> None:
    """Check, in the process that will start the workers, what none of them could see. Exits where it cannot serve."""
    settings = server.settings
    refuse_unfit_address(settings.grpc)
    share_temporary_folder()
    supervise(stops_within_s(settings), server.gate.tell_what_is_open)
    if any(spec.placement is Placement.SERVICE for spec in settings.versions.values()):
        refuse_long_folder()
    if settings.grpc.port is not None:
        from shokado.transports.grpc.server import refuse_taken_port

        try:
            refuse_taken_port(settings.grpc)
        except OSError as error:
            sys.exit(f"shokado: grpc.port: cannot listen at {settings.grpc.host}:{settings.grpc.port}: {error}")


def freeze_garbage() -> None:
    """Keep the collector off everything loaded so far: walking it stalls the event loop for up to 250 ms."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
