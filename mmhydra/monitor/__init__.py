"""What a person asks of a run: how is it, what does it print, end it. No torch, no Hydra, no submitit."""
