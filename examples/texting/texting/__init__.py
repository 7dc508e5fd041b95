"""A small texting application: campaigns, contacts loaded from CSV files, messages sent through a carrier.

It shows how an application uses spoke-jobs. ``examples/texting/README.md`` says where to start reading.
"""
