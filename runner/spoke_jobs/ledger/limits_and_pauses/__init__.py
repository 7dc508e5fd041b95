"""The rows of limits, rates and pauses. What they mean is in :mod:`spoke_jobs.limits`."""
