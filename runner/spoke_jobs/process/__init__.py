"""What the long-running processes of the runner share."""
