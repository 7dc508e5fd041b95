"""Which job runs after which: the rows of dependencies and batches, and what follows from an end."""
