"""Which SpokeJobs are admitted and which wait, in memory, and the limits that apply now."""
