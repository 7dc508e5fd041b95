"""What is said of a job, decided from what was read."""
