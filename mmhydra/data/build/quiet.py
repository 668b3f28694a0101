"""Imported before torch: keeps from the screen what its companions say of each other while they are imported."""

import logging

# torchao registers two enums in a way that this torch calls deprecated: of no use to whoever builds a dataset.
logging.getLogger("torch.utils._pytree").addFilter(lambda record: "register_constant" not in record.getMessage())
