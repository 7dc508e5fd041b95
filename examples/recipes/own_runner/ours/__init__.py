"""The application's own runner."""
