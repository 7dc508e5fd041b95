"""Migrations of the application's tables."""
