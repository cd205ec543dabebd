"""Architectures: what `my_package.nets:Net` or `nets.py:Net` names goes in, a module without its weights comes out.

It is the user's own code, which a checkpoint does not carry; importing and calling it runs it.
"""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from shokado.lifecycle.errors import SourceNotFound, UnsupportedModel

_SHOWN = 3
"""How many of several names an error shows."""


@dataclass(frozen=True)
class Architecture:
    """A callable by its name. Raises `UnsupportedModel` for what is no such name, `SourceNotFound` for no such file."""

    name: str

    def __post_init__(self) -> None:
        if not self._where or not self._callable.isidentifier():
            raise UnsupportedModel(
                f"{self.name!r} names no architecture: my_package.nets:Net and nets.py:Net are understood."
            )
        if self._path is not None and not self._path.is_file():
            raise SourceNotFound(f"There is no file {self._path}.")

    @property
    def _where(self) -> str:
        return self.name.rpartition(":")[0]

    @property
    def _callable(self) -> str:
        return self.name.rpartition(":")[2]

    @property
    def _path(self) -> Path | None:
        return Path(self._where) if self._where.endswith(".py") else None

    @cached_property
    def source(self) -> bytes:
        """The whole file that it stands in; empty where it has none. Raises `UnsupportedModel`."""
        if self._path is not None:
            return self._path.read_bytes()
        file = getattr(sys.modules.get(self._build.__module__), "__file__", None)
        return Path(file).read_bytes() if file else b""

    def __call__(self, input_dim: int, known: Mapping[str, Any], arguments: Mapping[str, Any]) -> Any:
        """The module of `torch.nn`, made with `input_dim`, what of `known` it has parameters for, and all `arguments`.

        Raises `UnsupportedModel`.
        """
        import torch

        keywords = self._keywords(input_dim, known) | dict(arguments)
        try:
            module = self._build(**keywords)
        except Exception as error:  # whatever somebody's own code raises
            given = ", ".join(f"{name}={value!r}" for name, value in keywords.items())
            raise UnsupportedModel(
                f"{self.name} cannot be called with {given or 'nothing'}: {error}. Further keywords are those of "
                """--architecture-args, such as '{"hidden": 64}'."""
            ) from error
        if not isinstance(module, torch.nn.Module):
            raise UnsupportedModel(f"{self.name} gives {type(module).__name__}, where a torch.nn.Module belongs.")
        return module

    def _keywords(self, input_dim: int, known: Mapping[str, Any]) -> dict[str, Any]:
        try:
            parameters = inspect.signature(self._build).parameters
        except ValueError:  # it is of C
            return {"input_dim": input_dim}
        takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        width = {"input_dim": input_dim} if takes_any or "input_dim" in parameters else {}
        return {name: value for name, value in known.items() if name in parameters} | width

    @cached_property
    def _build(self) -> Callable[..., Any]:
        module = self._imported()
        found = getattr(module, self._callable, None)
        if not callable(found):
            own = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
            raise UnsupportedModel(
                f"{self._where} has no callable {self._callable}; it has {', '.join(own[:_SHOWN]) or 'none'}."
            )
        return found  # type: ignore[no-any-return]

    def _imported(self) -> ModuleType:
        """The module, which may lie in the current folder, or the file as one."""
        folder = str((self._path.parent if self._path else Path()).resolve())
        sys.path.insert(0, folder)
        try:
            if self._path is None:
                return importlib.import_module(self._where)
            spec = importlib.util.spec_from_file_location(f"architecture_{self._path.stem}", self._path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module  # where its classes are looked for
            spec.loader.exec_module(module)
        except Exception as error:  # whatever somebody's own code raises
            raise UnsupportedModel(f"{self._where} cannot be imported: {type(error).__name__}: {error}") from error
        finally:
            sys.path.remove(folder)
        return module
