"""A job's process: `python -m ours.run_one ID` runs that job, attempt after attempt, until it has ended."""

from __future__ import annotations

import logging
import os
import sys

from sqlalchemy.orm import Session

from ours import process_runner
from spoke_jobs.execution.in_process import JobServices, run_to_completion
from spoke_jobs.registry import load_app

LEASE_SECONDS = 30.0


def main(job_id: int) -> None:
    """Run the job. Its end is recorded in the ledger."""
    ledger = process_runner.ledger()
    job = ledger.get(job_id)
    if job is None:
        sys.exit(f"there is no job {job_id}")
    services = JobServices(
        ledger,
        load_app(os.environ["SPOKE_APP"]),
        lambda: Session(ledger.engine),
        decide=True,  # this process decides whether another attempt follows
        on_stop=lambda _reason: os._exit(1),  # this process runs nothing else
    )
    run_to_completion(job, services, lease_seconds=LEASE_SECONDS)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main(int(sys.argv[1]))
