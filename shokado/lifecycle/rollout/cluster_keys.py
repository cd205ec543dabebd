"""The keys of an environment in a cluster: entries of `keys.yaml` in its Secret come and go, and the rest of it stays.

The Secret also holds `runner-key`, with which the gateways ask the runners. Whoever else changes the Secret meanwhile
loses nothing: what was read is written only if it is still there, and else read again.
"""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from shokado.access.keys import Key, Role, add_to, digest_of, parse_keys, take_from, text_of
from shokado.lifecycle.errors import DeployFailed
from shokado.lifecycle.rollout.kubectl import Kubectl

SECRET = "shokado-keys"  # noqa: S105
ENTRY = "keys.yaml"
RUNNER_ENTRY = "runner-key"
TRIES = 5
"""How many others may change the Secret between reading and writing before this gives up."""
_MODIFIED = "the object has been modified"
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Held:
    """What the Secret holds."""

    keys: list[Key]
    runner_digest: str | None
    """The digest of the key with which the gateways ask the runners."""
    resource_version: str

    def is_of_gateways(self, key: Key) -> bool:
        return key.sha256 == self.runner_digest


@dataclass(frozen=True, slots=True)
class ClusterKeys:
    """The keys of one environment."""

    kubectl: Kubectl
    namespace: str

    def __str__(self) -> str:
        return f"{ENTRY} of Secret {SECRET} in namespace {self.namespace}"

    def read(self) -> Held:
        """The keys that are there. Raises `DeployFailed`, and `KeyFileError` for what is no list of keys."""
        found = self.kubectl.found("secret", SECRET, f"--namespace={self.namespace}")
        if found is None:
            message = f"Secret {SECRET} is not in namespace {self.namespace}; k8s/README.md says how it is made."
            raise DeployFailed(message)
        data = {name: base64.b64decode(text) for name, text in (found.get("data") or {}).items()}
        keys = list(parse_keys(str(self), data[ENTRY]).keys) if ENTRY in data else []
        runner = digest_of(data[RUNNER_ENTRY].strip()).hex() if RUNNER_ENTRY in data else None
        return Held(keys, runner, found["metadata"]["resourceVersion"])

    def add(self, name: str, role: Role) -> str:
        """Make a key, and return what is shown once. Raises `DeployFailed`, `KeyFileError`."""
        return self._change(lambda held: add_to(str(self), held.keys, name, role))

    def revoke(self, name: str, command: str, *, force: bool) -> None:
        """Take a key out. Raises `DeployFailed`, `KeyFileError`.

        Args:
            command: what would do it by force.
            force: also the gateways' own key, and the last admin's.
        """

        def change(held: Held) -> None:
            key = take_from(str(self), held.keys, name)
            if not force and held.is_of_gateways(key):
                message = f"Key {name} is {RUNNER_ENTRY}: without it, the gateways get no answer from the runners."
                raise DeployFailed(message, command)
            if not force and key.role is Role.ADMIN and Role.ADMIN not in {other.role for other in held.keys}:
                message = f"Key {name} is the last admin's: without it, nobody can change the split."
                raise DeployFailed(message, command)

        self._change(change)

    def _change(self, change: Callable[[Held], _Result]) -> _Result:
        for _ in range(TRIES):
            held = self.read()
            result = change(held)
            try:
                self._write(held)
            except DeployFailed as error:
                if _MODIFIED not in str(error):
                    raise
            else:
                return result
        raise DeployFailed(f"Somebody else changes Secret {SECRET} all the time; nothing was changed by this command.")

    def _write(self, held: Held) -> None:
        data = {ENTRY: base64.b64encode(text_of(held.keys).encode()).decode()}
        patch = {"metadata": {"resourceVersion": held.resource_version}, "data": data}
        where = [f"secret/{SECRET}", f"--namespace={self.namespace}", "--type=merge", "--field-manager=shokado-keys"]
        self.kubectl.run("patch", *where, "--patch-file=/dev/stdin", content=json.dumps(patch))
