"""The rows of schedules, and the statements that dispatch their jobs."""
