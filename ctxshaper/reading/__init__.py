"""Reading passages with the early layers of a language model."""
