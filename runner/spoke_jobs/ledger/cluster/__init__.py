"""What sync and the runner `kubernetes` read and write."""
