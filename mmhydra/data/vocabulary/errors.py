"""What a vocabulary or a text tokenizer refuses."""

from mmhydra.errors import UserError


class VocabularyError(UserError):
    """A layout, a text tokenizer or ids that do not fit together."""
