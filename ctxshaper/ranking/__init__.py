"""What scores text without a reader: BM25, links between passages."""
