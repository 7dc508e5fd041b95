"""What is the application's own."""
