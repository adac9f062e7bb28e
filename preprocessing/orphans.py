"""Worker processes of a pool end when their parent process ends, also after SIGKILL, when nothing else would end them."""

import multiprocessing
import os
import threading
from multiprocessing.connection import wait


def end_with_parent() -> None:
    """Called at the start of a multiprocessing worker. A pipe that only the parent holds open shows when the parent ends."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def follow() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, name="end-with-parent", daemon=True).start()
