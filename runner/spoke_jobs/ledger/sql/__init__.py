"""What SQL statements share: expressions, filters, savepoints, and waits for locks."""
