"""All exceptions that cropline raises, as one tree: callers catch the level that they need.

CroplineError                  base of all; ``code`` is stable, ``str()`` is safe to show and to store
├── SettingsError              a setting is invalid; nothing was started
├── OptionError                an option of a Python call or a FugueSQL line is invalid; nothing was fetched; a ValueError
├── ApiError                   the image API could not be read
│   ├── ApiUnavailable         a later try may succeed (429, 5xx, timeouts)
│   └── ApiRefused             every try fails until an operator acts (401, 403, 404, cursor loop, not JSON)
├── ManifestError              a manifest is missing or differs from what was landed
│   └── ManifestRejected       too many of its rows are bad; nothing was registered
├── StateError                 the state table cannot be used
│   ├── StaleLease             another attempt owns the batch: this one must not commit
│   └── SchemaTooNew           a newer cropline migrated the database
├── StorageError               the object store could not be used
├── CatalogueError             the Delta table could not be read or written
├── ExportError                an export cannot be made: its condition is invalid, or its folder cannot be written
├── EngineError                the engine setting names something that cannot run here
│   ├── SessionLost            the cluster restarted, is gone, or closed the session; a new session may work
│   └── NotReachable           nothing accepts a connection at the cluster's address
├── NothingCameThrough         every item of the run was bad or failed
├── RunStopped                 the run ends, and so does the batch in progress
└── NotReconciled              boxes in != written + failed + skipped

A failure of one box is not an exception: it is a reason code in the box's row (see failures.py).
Messages never hold a URL's query, a token, or a response body.
"""

from datetime import timedelta


class CroplineError(Exception):
    """Base class. ``code`` names the kind of error in logs, exit lines and lineage."""

    code = "error"


class SettingsError(CroplineError):
    code = "settings"


class OptionError(CroplineError, ValueError):
    code = "option"


class ApiError(CroplineError):
    code = "api"


class ApiUnavailable(ApiError):
    """``wait``: the delay that the API asked for; None when it asked for none."""

    code = "api_unavailable"
    wait: timedelta | None = None


class ApiRefused(ApiError):
    code = "api_refused"


class ManifestError(CroplineError):
    code = "manifest"


class ManifestRejected(ManifestError):
    code = "manifest_rejected"


class StateError(CroplineError):
    code = "state"


class StaleLease(StateError):
    code = "stale_lease"


class SchemaTooNew(StateError):
    code = "schema_too_new"


class StorageError(CroplineError):
    code = "storage"


class CatalogueError(CroplineError):
    code = "catalogue"


class ExportError(CroplineError):
    code = "export"


class EngineError(CroplineError):
    code = "engine"


class SessionLost(EngineError):
    """The message says what was lost and where."""


class NotReachable(EngineError):
    """The message says where. A server that restarts is not reachable for a while."""


class NothingCameThrough(CroplineError):
    code = "nothing_came_through"


class RunStopped(CroplineError):
    code = "run_stopped"


class NotReconciled(CroplineError):
    code = "not_reconciled"
