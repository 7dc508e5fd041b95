"""What a dispatcher and a task server say to one another. Pure: nothing here does I/O.

A request is ``POST /v1/tasks`` with many tasks: NDJSON, one a line, or JSON ``{"tasks": [...]}``. A task is
``{"id", "name", "payload", "attempt", "waited"}``; its payload is JSON text in a string, or, where that
is handier, any JSON value that isn't a string. The answer streams one acknowledgement a line, each as soon as its task
has ended; empty lines say that the server is alive. The version is in the path; within a version fields are only ever
added, and what a side doesn't know it ignores. Acknowledgements name causes and never hold anything of a payload.
"""
