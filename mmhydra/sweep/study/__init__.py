"""Studies: YAML files that say which points are made, read, checked and expanded."""
