"""The demo's records: text of the standard library, and pictures, sounds and clips that are synthesized.

No network, no downloaded file: what is drawn is known, so every description says exactly what is there.
"""
