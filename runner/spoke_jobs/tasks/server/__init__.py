"""The receiving side of tasks: the process of the task deployment, ``spoke-jobs tasks``.

``serve`` starts and stops it. A task comes over HTTP (``http_app``, behind ``guarded_server`` and ``auth``) or from
the outbox (``outbox_worker``). ``executor`` accepts it, ``slots`` gives it a thread or a slot of the event loop, and
``task_run`` runs it.

Bounds: `connection_table.py` (connections), `connection_phases.py` (time of headers, bodies, idle connections),
`loop_share.py` (processor time without credentials), `bounded_protocol.py` (headers), `tasks/protocol/messages.py`
(bodies, batches). TLS: `certificate.py`, `lean_tls.py`. Metrics: `task_metrics.py`.
"""
