"""The benchmark of the dashboard: its pages and filters beside a large ledger, live updates, and what it costs claims.

==================  ============================================================================================
``__main__``        what `run` starts: goes through the parts, reports
``settings``        what a run can be told by the environment
``layout``          pure: how many rows of each kind the database has, their ids and names
``fill``            pure: the SQL statements that fill it
``kept_database``   makes the database, or takes the one of an earlier run
``request_plan``    pure: the addresses that are asked for, and why each
``dashboards``      `spoke-jobs web` in processes of their own; one request
``page_times``      how long each address takes
``live_viewers``    browsers that wait for changes, and changes
``claim_cost``      claims with and without the dashboard's load
``slow_page``       what a page says whose statement takes too long
``application``     declares the jobs, for the preview of a backfill
``figures``         pure: from measurements to figures; ``tables`` and ``plot`` show them
==================  ============================================================================================
"""
