"""What a function is to be built for: AWS's runtimes, by the Python and the processor that packages are chosen for."""

import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Runtime(StrEnum):
    """AWS's name of a managed runtime. Older ones have a C library that numpy's wheels do not run with."""

    PYTHON_3_12 = "python3.12"
    PYTHON_3_13 = "python3.13"
    PYTHON_3_14 = "python3.14"
    HERE = "here"
    """This machine's Python, to try a function before it is uploaded."""

    @property
    def python(self) -> str:
        """The version of Python, such as `3.13`."""
        if self is Runtime.HERE:
            return f"{sys.version_info.major}.{sys.version_info.minor}"
        return self.value.removeprefix("python")


class Processor(StrEnum):
    """AWS's name of a processor."""

    X86_64 = "x86_64"
    ARM64 = "arm64"


_MACHINES = {Processor.X86_64: "x86_64", Processor.ARM64: "aarch64"}
_GLIBC = "manylinux_2_34"
"""The C library of Amazon Linux 2023, on which these runtimes are."""


@dataclass(frozen=True)
class FunctionOrder:
    """What to build."""

    config: Path | None = None
    """A serving.yaml; None: the project's own."""
    runtime: Runtime = Runtime.PYTHON_3_13
    architecture: Processor = Processor.X86_64
    xgboost: bool = False
    """Whether XGBoost goes in where no version needs it to be scored."""

    @property
    def platform(self) -> str | None:
        """What uv calls the platform of the packages; None: this machine's."""
        return None if self.runtime is Runtime.HERE else f"{_MACHINES[self.architecture]}-{_GLIBC}"

    @property
    def runs_here(self) -> bool:
        """Whether packages are those of this machine's processor."""
        return self.runtime is Runtime.HERE or platform.machine() == _MACHINES[self.architecture]

    def interpreter(self) -> Path | None:
        """A Python of this machine of the function's version; None where there is none."""
        if self.runtime.python == Runtime.HERE.python:
            return Path(sys.executable)
        found = shutil.which(f"python{self.runtime.python}")
        # A version manager has names of Pythons that it would not start.
        works = (
            found is not None and subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0
        )
        return Path(found) if found is not None and works else None
