"""Studies for Hydra's `-m`. Hydra imports this at each start of each application, so it imports nothing but Hydra."""
