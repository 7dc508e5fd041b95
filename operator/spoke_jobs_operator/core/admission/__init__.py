"""Which waiting SpokeJobs get a Job now, and in which order."""
