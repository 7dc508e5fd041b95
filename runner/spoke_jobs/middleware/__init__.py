"""Middleware: hooks of an application around dispatches, attempts of jobs and runs of tasks."""
