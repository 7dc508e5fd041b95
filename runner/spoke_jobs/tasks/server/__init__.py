"""What runs: the task deployment's process."""
