"""The NGINX gateway's configuration, filled as nginx's image fills it: `${NAME}` by its value, and nothing else."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "k8s" / "gateway"
TEMPLATE = FOLDER / "nginx.conf.template"
DEFAULTS = dict(
    line.split("=", 1) for line in (FOLDER / "gateway.env").read_text().splitlines() if line and line[0] != "#"
)


def filled(values: Mapping[str, str]) -> str:
    """The configuration with the defaults of `gateway.env`, or these values. Raises `KeyError`."""
    chosen = {**DEFAULTS, **values}
    return re.sub(r"\$\{([A-Z_]+)\}", lambda match: chosen[match[1]], TEMPLATE.read_text())


def globals_for_this_user() -> str:
    """What `nginx -g` takes. Started by root, its workers would be another user, who cannot read temporary folders."""
    return "daemon off;" + (" user root;" if os.getuid() == 0 else "")
