"""A Django application: uploads of names, and the contacts that jobs create from them."""
