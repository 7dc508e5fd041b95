"""The shared key of tests' dispatchers and task servers."""

KEY = "test-key-0123456789-0123456789-01"
