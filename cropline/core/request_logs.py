"""Logs of HTTP requests, which must not show what is requested: a path or a query may hold a key."""

import logging

_LOGGERS = ("urllib3.connectionpool", "urllib3.connection", "urllib3.response", "urllib3.util.retry")


class _WithoutTargets(logging.Filter):
    """Rewrites urllib3's log records, which quote request targets, URLs and unparsed headers."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            record.msg, record.args = str(record.msg).split("%", 1)[0].split("(", 1)[0].rstrip(" :"), ()
        elif isinstance(record.args, tuple):
            record.args = tuple("..." if _holds_target(value) else value for value in record.args)
        record.exc_info = record.exc_text = None
        return True


def _holds_target(value: object) -> bool:
    text = str(value)
    return text.startswith("/") or "://" in text or "?" in text


def hush_targets() -> None:
    """Stop urllib3 from logging paths and queries in this process. Calling it again changes nothing."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(present, _WithoutTargets) for present in logger.filters):
            logger.addFilter(_WithoutTargets())
