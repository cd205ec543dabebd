"""kubectl: arguments go in, what it prints comes out, or a `DeployFailed` with what it says of its failure."""

import shutil
import subprocess
from dataclasses import dataclass
from typing import Any

import yaml

from shokado.lifecycle.errors import DeployFailed

REQUEST_TIMEOUT_S = 30
"""Time for one answer of the cluster."""
REACH_TIMEOUT_S = 10
"""How long it may take to see that a cluster answers at all."""
MARGIN_S = 60
"""Time beyond what kubectl was told to wait at most, after which it counts as hung."""

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kubectl:
    """The program, with one cluster."""

    context: str | None = None
    """A context of the kubeconfig; None: the current one."""

    def words(self, *arguments: str) -> list[str]:
        """The command line, for running and for showing."""
        return ["kubectl", *([f"--context={self.context}"] if self.context else []), *arguments]

    def run(self, *arguments: str, content: str | None = None, wait_s: float = REQUEST_TIMEOUT_S) -> str:
        """What it prints; `content` is its standard input. Raises `DeployFailed`."""
        ended = self._end(*arguments, content=content, wait_s=wait_s)
        if ended.returncode:
            raise DeployFailed(_last_words(ended.stderr) or f"{' '.join(ended.args)} failed.")
        return ended.stdout

    def unreachable(self) -> str | None:
        """Why the cluster does not answer; None when it does."""
        ended = self._end("version", f"--request-timeout={REACH_TIMEOUT_S}s", wait_s=REACH_TIMEOUT_S)
        return (_last_words(ended.stderr) or "no answer") if ended.returncode else None

    def found(self, *arguments: str) -> Manifest | None:
        """What `kubectl get .. --output=yaml` gives; None when it is not there. Raises `DeployFailed`."""
        text = self.run("get", *arguments, "--ignore-not-found", "--output=yaml")
        content: Manifest | None = yaml.load(text, yaml.CSafeLoader)
        return content

    def _end(self, *arguments: str, wait_s: float, content: str | None = None) -> subprocess.CompletedProcess[str]:
        if shutil.which("kubectl") is None:
            message = "kubectl is not installed; https://kubernetes.io/docs/tasks/tools/ says how to."
            raise DeployFailed(message, "apt-get install kubernetes-client")
        try:
            return subprocess.run(
                self.words(*arguments),
                input=content,
                capture_output=True,
                text=True,
                timeout=wait_s + MARGIN_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise DeployFailed(f"{' '.join(error.cmd)} did not end within {error.timeout:.0f} s.") from error


def _last_words(errors: str) -> str:
    """The message at the end; kubectl logs its own tries before it."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    said = [line for line in lines if not line[:5].strip("EWI").isdecimal()] or lines[-1:]
    return " ".join(said).removeprefix("error: ")
