"""What workers and sync do at intervals: end what nobody else ends, and delete old rows."""
