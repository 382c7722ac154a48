"""Lines of the log: for people, or one JSON object a line."""

import logging
import traceback
from datetime import UTC, datetime
from typing import Literal

import orjson


class JsonLines(logging.Formatter):
    """Writes time, level, logger and message, and the facts that a line was made from."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        said = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(said, default=str).decode()


def place_of(error: BaseException) -> str:
    """Say of which type an error is, and where it was raised.

    Its message may quote what was sent; type and place do not.
    """
    frames = traceback.extract_tb(error.__traceback__)
    places = " < ".join(f"{each.filename}:{each.lineno}" for each in reversed(frames))
    return f"{type(error).__name__} at {places}"


def set_up(form: Literal["text", "json"]) -> None:
    """Write the service's log to standard error."""
    # No line says which thread, process or place in the source it is of: not worth finding out for
    # each. Source: Python's logging HOWTO, section "Optimization".
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None
    handler = logging.StreamHandler()
    text = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    handler.setFormatter(JsonLines() if form == "json" else text)
    logging.basicConfig(handlers=[handler], level=logging.INFO)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # `api.access` logs every exchange
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # its warnings quote the body
