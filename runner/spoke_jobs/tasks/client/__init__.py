"""The sending side of tasks, which ``dispatch_task`` uses under ``kubernetes``.

A task passes through these modules in this order: ``dispatcher`` (accepts it), ``buffer`` (keeps it until its end is
known), ``batches`` (groups tasks into requests), ``replicas`` (chooses the server), ``delivery`` (the loop that starts
requests), ``sender`` (sends one request and handles its acknowledgements).
"""
