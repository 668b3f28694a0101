"""The stream: which sample is number n, for any n, at any world size; and which n a sample is."""
