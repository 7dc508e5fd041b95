"""Start the operator and connect its parts; lead or stand by; health and logs."""
