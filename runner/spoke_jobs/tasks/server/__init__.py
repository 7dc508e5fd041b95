"""The receiving side of tasks: the process of the task deployment, ``spoke-jobs tasks``.

``serve`` starts and stops it. A task comes over HTTP (``http_app``, behind ``guarded_server`` and ``auth``) or from
the outbox (``outbox_worker``). ``executor`` accepts it, ``slots`` gives it a thread or a slot of the event loop, and
``task_run`` runs it.
"""
