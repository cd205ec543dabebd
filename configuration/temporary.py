"""The folder for temporary files in which the processes of one server meet.

Python takes the first one that can be written to now: a worker that is started while `/tmp` is full would take another
than its siblings. So the supervisor takes one for all.
"""

import os
import tempfile
from pathlib import Path

_VARIABLE = "_SHOKADO_TEMPORARY"


def share_temporary_folder() -> None:
    """The supervisor calls this before it starts anything."""
    os.environ[_VARIABLE] = tempfile.gettempdir()


def temporary_folder() -> Path:
    """The supervisor's; where there is none, Python's."""
    return Path(os.environ.get(_VARIABLE) or tempfile.gettempdir())
