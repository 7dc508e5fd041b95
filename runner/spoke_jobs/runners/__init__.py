"""The runners: what happens to a job or a task once it is dispatched. ``runner`` has their base class."""
