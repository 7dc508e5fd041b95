"""The API server's objects as frozen views, and their lenient reading."""
