"""Credentials in addresses: left out of whatever is shown. In: words. Out: the same without them."""

import os
import re
from urllib.parse import quote, unquote, urlsplit

LEFT_OUT = "***"

# Greedy: a password may hold any character, also `@` and `/`, whether or not it should be written as %40 and %2F. Three
# slashes begin a path, in which no credentials are.
_IN_WORDS = re.compile(r"(?<!/)//(?!/)[^\s'\"<>]*@")
_IN_VARIABLE = re.compile(r"(?<!/)//(?!/)((?:(?!//).)*)@", re.DOTALL)
_IN_MISTAKE = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:/?)?([^/:\s]*:(?!/).*)@", re.DOTALL)
"""Credentials in a variable that lacks the slashes of an address: `user:password@host`, `http:user:password@host`."""
_VARIABLES = re.compile(r"(MLFLOW|SHOKADO|PIP|UV)_.*|.*_PROXY", re.IGNORECASE)
"""Names of environment variables that hold addresses."""


def without_credentials(words: str) -> str:
    """A text without the users, passwords and tokens of the addresses in it: what stands between `//` and the last `@`.

    Libraries repeat parts of an address that they could not read, such as a password for a port. So those that the
    environment knows are left out wherever they stand.
    """
    for part in sorted(_known(), key=len, reverse=True):
        words = re.sub(rf"(?<![A-Za-z0-9]){re.escape(part)}(?![A-Za-z0-9])", LEFT_OUT, words)
    return _IN_WORDS.sub(f"//{LEFT_OUT}@", words)


def check_credentials(url: str) -> str:
    """The address. Raises `ValueError`, whose words repeat none of it, when it is cut off in the middle of them."""
    try:
        parts = urlsplit(url)
        whole = not parts.netloc or "@" not in parts.path + parts.query + parts.fragment
        # Raises for what is no number of a port, which may be a part of a password.
        whole = whole and isinstance(parts.port, int | None)
    except ValueError:
        whole = False
    if not whole:
        words = "special characters of a user or password in an address are written as %40, %2F, %23, .."
        raise ValueError(f"{words}, and its port is a number up to 65535")
    return url


def _known() -> set[str]:
    """The parts of all credentials in the environment's addresses, in every spelling."""
    addresses = [value for name, value in os.environ.items() if "@" in value and _VARIABLES.fullmatch(name)]
    found = {credentials for address in addresses for credentials in _IN_VARIABLE.findall(address)}
    found |= {mistake[1] for address in addresses if "//" not in address and (mistake := _IN_MISTAKE.match(address))}
    found |= {part for credentials in found for part in re.split(r"[:@/?#\s]", credentials)}
    return {spelled for part in found if part for spelled in (part, unquote(part), quote(part, safe=""))}
