"""What `status` shows of a sweep."""
