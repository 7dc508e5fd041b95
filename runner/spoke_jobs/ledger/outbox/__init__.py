"""The tasks in the outbox: their claims and ends, and what people read of them."""
