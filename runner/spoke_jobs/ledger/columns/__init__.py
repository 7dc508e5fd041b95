"""What columns hold: their types, the database's clock, and the reading of what other code may have written."""
