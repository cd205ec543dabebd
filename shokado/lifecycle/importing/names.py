"""Names of models and versions that BentoML takes as they are."""

import re

from shokado.lifecycle.errors import LifecycleError

_NAME = re.compile(r"[a-z0-9]([-._a-z0-9]{0,61}[a-z0-9])?")


def check_name(kind: str, name: str) -> str:
    """The name itself if BentoML takes it as it is. Raises `LifecycleError` otherwise; `kind` is for the message."""
    if name == "latest" or not _NAME.fullmatch(name):
        raise LifecycleError(
            f"{name!r} cannot be a {kind} in the BentoML store: use lower-case letters, digits, '-', '_' and '.', "
            "63 characters at most, a letter or digit at both ends, and not 'latest'."
        )
    return name


def fitting_name(name: str) -> str:
    """A name that BentoML takes and that is as near as can be, such as `titanic_rf` for `Titanic_RF`."""
    fitting = re.sub(r"[^-._a-z0-9]+", "-", name.lower()).strip("-._")[:63].rstrip("-._")
    return fitting if fitting and fitting != "latest" else "model"
