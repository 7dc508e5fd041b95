"""Standby pods: create and replace them, and hand attempts over to them."""
