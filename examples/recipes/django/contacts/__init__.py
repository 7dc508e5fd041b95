"""A Django application: uploads of names, and the contacts that jobs make of them."""
