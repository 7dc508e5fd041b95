"""Who changed what, and when: the table `job_event`."""
