"""The messages between a dispatcher and a task server. Pure: nothing here does I/O.

A request is ``POST /v1/tasks`` with many tasks: as NDJSON, one a line, or as JSON, ``{"tasks": [...]}``. A task is
``{"id", "name", "payload", "attempt", "waited"}``. Its payload is JSON text in a string, or any other JSON value.

The answer streams one acknowledgement a line, each as soon as its task has ended. Empty lines show that the server is
alive. Acknowledgements name causes and contain no part of a payload.

The version is in the path. Within a version, fields are only added. Each side ignores fields that it does not know.
"""
