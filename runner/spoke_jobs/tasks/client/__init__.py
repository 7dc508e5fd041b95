"""The sending side of tasks: what ``dispatch_task`` does under ``kubernetes``.

A task goes through these modules in this order: ``dispatcher`` (takes it), ``buffer`` (keeps it until its end is
known), ``batches`` (what is sent together), ``replicas`` (to which server), ``delivery`` (the loop that starts
requests), ``sender`` (one request, and what each acknowledgement means).
"""
