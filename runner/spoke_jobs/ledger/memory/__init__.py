"""The ledger in memory, for tests without a database."""
