"""Which jobs may start, the search for them, and their claims: one, or many at once."""
