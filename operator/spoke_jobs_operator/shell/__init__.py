"""The operator's I/O: streams, work queue, API calls, health. It makes no decision about a SpokeJob.

`watching/` fills `store/`; `reconciling/` works through the queue; `admission/pacing.py` keeps what counts against
limits; `api/` calls the API server, `metrics/` counts, `process/` starts, leads and stands by, `standby/` handles
standby pods.
"""
