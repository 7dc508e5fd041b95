"""What a dispatcher and a task server say to one another. Pure: nothing here does I/O.

A request is ``POST /v1/tasks`` with many tasks: as NDJSON, one a line, or as JSON, ``{"tasks": [...]}``. A task is
``{"id", "name", "payload", "attempt", "waited"}``. Its payload is JSON text in a string, or any JSON value that is no
string.

The answer streams one acknowledgement a line, each as soon as its task has ended. Empty lines show that the server is
alive. Acknowledgements name causes and never hold any part of a payload.

The version is in the path. Within a version, fields are only added, and each side ignores those that it does not know.
"""
