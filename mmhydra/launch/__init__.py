"""From a request to running processes. The submit side: never torch."""
