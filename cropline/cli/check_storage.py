"""``cropline check-storage``: which of the needed operations the storage supports."""

from __future__ import annotations

from cropline.config.settings import load_installation
from cropline.core import store_probe
from cropline.core.errors import StorageError
from cropline.core.screen import Screen


def show_promises() -> None:
    """Print one line per operation.

    Raises StorageError for the first that the store lacks; else runs skip the probe.
    """
    spec = load_installation().storage.spec
    found = store_probe.probe(spec)
    screen = Screen()
    screen.print(f"storage {spec.url}", soft_wrap=True)
    for promise in found:
        screen.print(f"  {'missing' if promise.broken else 'ok':<8} {promise.name}", soft_wrap=True)
    broken = next((promise for promise in found if promise.broken), None)
    if broken is not None:
        raise StorageError(store_probe.refusal(spec, broken))
    store_probe.remember(spec)
