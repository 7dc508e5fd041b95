"""The state of an attempt: how its pod ended, or why it does not run yet."""
