"""``python -m spoke_jobs``: the command line."""

from spoke_jobs.cli import main

main()
