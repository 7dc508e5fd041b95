"""An application that can't be imported."""

raise ZeroDivisionError("its text may hold values")
