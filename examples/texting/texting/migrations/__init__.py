"""The history of the application's tables, apart from the library's own."""
