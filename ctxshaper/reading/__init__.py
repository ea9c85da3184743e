"""Reading: passage memories and where they live."""
