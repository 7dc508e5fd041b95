"""The runners, which run dispatched jobs and tasks or pass them on. ``runner`` has their base class."""
