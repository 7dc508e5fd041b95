"""The whole product on kind: see conftest.py."""
