"""Processes of a pool end with the process that made them, however that ends: after SIGKILL nobody else ends them."""

import multiprocessing
import os
import threading
from multiprocessing.connection import wait


def end_with_parent() -> None:
    """Called in a worker of multiprocessing as it starts. A pipe that its parent alone holds open tells when it is gone."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def follow() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, name="end-with-parent", daemon=True).start()
