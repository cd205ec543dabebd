"""Policies as YAML files: what is read is checked, and each wrong key is named."""

import difflib
import re
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from configuration.settings import SettingsError

Policy = TypeVar("Policy", bound=BaseModel)


def read_policy(path: Path, kind: type[Policy]) -> Policy:
    """The policy that a file holds; what it leaves out is by default. Raises `SettingsError`."""
    try:
        content = yaml.safe_load(path.read_bytes())
    except (OSError, yaml.YAMLError) as error:
        raise SettingsError(f"{path}: not readable as YAML: {error}") from error
    try:
        return kind.model_validate({} if content is None else content)
    except ValidationError as error:
        lines = [f"{path}: {explained(problem, list(kind.model_fields))}" for problem in error.errors()]
        raise SettingsError("\n".join(lines)) from error


def explained(problem: Any, known: list[str]) -> str:
    """What is wrong with a key, in a line that names it, and of an unknown one the nearest of those that are known."""
    where = ".".join(str(part) for part in problem["loc"]) or "policy"
    if problem["type"] != "extra_forbidden":
        return f"{where}: {re.sub('^Value error, ', '', problem['msg'])}"
    if len(problem["loc"]) > 1:
        return f"{where}: unknown key"
    nearest = difflib.get_close_matches(where, known, n=1, cutoff=0.5)
    return f"{where}: unknown key; " + (f"did you mean {nearest[0]}?" if nearest else f"known are {', '.join(known)}")
