"""The stream: which sample is number n, for any n, at any world size; and which n a sample is."""

ALGORITHM = 2  # raise it when the same n would be another sequence: a checkpoint of another one is not resumed
