"""What a store that stays open does from time to time: take in what was there and what others write, forget answers."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from mdstore.errors import MetadataError
from mdstore.store.store import Store, bootstrap

log = structlog.get_logger()


@contextmanager
def doing_chores(store: Store, every_s: float) -> Iterator[None]:
    """Inside the block, reconcile the store's log every so many seconds, on a thread of its own.

    First it is bootstrapped, if `Store.open` was told to leave that.
    """
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            try:
                bootstrap(store, lambda: not over.is_set())
                break
            except MetadataError as error:
                log.warning("bootstrapping_failed", error=str(error))
                over.wait(every_s)
            except Exception as error:
                log.exception("bootstrapping_failed", error=str(error))
                over.wait(every_s)
        while not over.wait(every_s):
            try:
                store.reconcile()
            except MetadataError as error:
                # A busy or absent database is somebody else's to report; the next time may be better.
                log.warning("reconciling_failed", error=str(error))
            except Exception as error:
                # Without this thread nothing of others would come into the log any more, and nobody would notice.
                log.exception("reconciling_failed", error=str(error))

    thread = threading.Thread(target=work, name="mdstore-chores", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
