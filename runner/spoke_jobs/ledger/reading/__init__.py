"""Queries for people: the command line and `why`. They change nothing.

Lists of jobs: `listing_plan.py` decides which rows are read, `job_listing.py` reads them, for a period with
`id_bounds.py`. Pages: `dashboard_queries.py`. `why`: of one job `situations.py`, of all `crowd_facts.py` and
`crowd.py`; of failures `failure_facts.py`, of workers that pass over a job `takers.py`, of who cancelled or suspended
one `event_actors.py`. Usage: `usage_queries.py`.
"""
