"""Packing: documents into sequences of one length, by an index that is made once and kept with the dataset."""
