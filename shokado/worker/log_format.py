"""The log as JSON: an object a line, with the ids of the request and of its trace where it is about one.

In: what any logger of the process is told. Out: `timestamp`, `level`, `logger`, `process`, `message`, what a line says
in `extra` (`request_id`, `trace_id`, `span_id`, `version`, `code`), and `exc_info` for a traceback.
"""

import logging
from typing import Any

from bentoml._internal import log as bentoml_log

_LOGGERS = ("", "bentoml", "uvicorn.error", "circus")
"""Those that BentoML gives handlers."""


def log_as_json() -> None:
    """Have all of this process's log written so, by the handlers that there are and those that BentoML makes later."""
    from pythonjsonlogger.json import JsonFormatter

    def formatter() -> logging.Formatter:
        return JsonFormatter(
            ["levelname", "name", "process", "message"],
            timestamp=True,
            rename_fields={"levelname": "level", "name": "logger"},
        )

    made_later: tuple[dict[str, Any], ...] = (bentoml_log.SERVER_LOGGING_CONFIG, bentoml_log.CLI_LOGGING_CONFIG)
    for configuration in made_later:
        for name in configuration["formatters"]:
            configuration["formatters"][name] = {"()": formatter}
        for handler in configuration["handlers"].values():
            # BentoML's filter would put its own ids in the place of the request's.
            handler["filters"] = [name for name in handler.get("filters", ()) if name != "tracing"]
    for logger in map(logging.getLogger, _LOGGERS):
        for made in logger.handlers:
            made.setFormatter(formatter())
            for found in [one for one in made.filters if isinstance(one, bentoml_log.TraceRecordFilter)]:
                made.removeFilter(found)
