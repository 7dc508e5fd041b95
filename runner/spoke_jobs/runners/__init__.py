"""The runners, which run dispatched jobs and tasks or pass them on. ``runner`` has their base class.

Each passes the suite tests/contract/runner.py. `ticker.py` dispatches what is due of schedules; `schedule_metrics.py`
and `attempt_counts.py` count.
"""
