"""``python -m spoke_jobs.worker``: a worker's child process. `child_pool` starts it.

The arguments are the kind of jobs, the file descriptors of the socket, of the shared memory, of the file for stacks and
of the file for the output of jobs, and the number of jobs that run at once.
"""

from __future__ import annotations

import os
import socket
import sys

from spoke_jobs.shared import garbage_collection


def main(kind: str, descriptor: int, shared: int, stacks: int, output: int, slots: int) -> None:
    """Import what this kind of child needs, and run its orders."""
    garbage_collection.pause()
    from spoke_jobs.shared.log_setup import configure_logging
    from spoke_jobs.worker import stack_file
    from spoke_jobs.worker.child_pool import ChildKind
    from spoke_jobs.worker.shared_state import SharedState

    os.set_inheritable(descriptor, False)  # otherwise a process that a job started would keep the connection open
    stack_file.register(stacks)
    configure_logging()
    with socket.socket(fileno=descriptor) as connection:
        os.register_at_fork(after_in_child=connection.close)  # otherwise a copy of this process could read its orders
        if kind == ChildKind.LOOP.value:
            from spoke_jobs.worker import async_child

            async_child.serve(connection, slots, SharedState.open(shared))
            os._exit(0)  # do not wait for threads that jobs left running
        else:
            from spoke_jobs.worker import child

            child.serve(connection, SharedState.open(shared), output)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
