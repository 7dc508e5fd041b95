"""What each kind of process, and each role of PostgreSQL, may do with the tables."""
