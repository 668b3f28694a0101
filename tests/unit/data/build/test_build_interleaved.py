import numpy as np
import pytest

from mmhydra.config.templates import Template
from mmhydra.data.build.read_stage import parts_of
from mmhydra.data.records.media import LoadedRecord
from mmhydra.data.records.record import Record
from mmhydra.data.templates import fitting_templates

FORMS = {
    "interleaved": "{interleaved}",
    "caption": "<|image_start|>{image}<|image_end|>{text}",
    "image": "<|image_start|>{image}<|image_end|>",
}
TEMPLATES = [Template(name=name, form=form, loss="all", share=1.0) for name, form in FORMS.items()]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<|image|> One owl.", ["interleaved", "image"]),  # {text} would write the placeholder as text
        ("One owl.", ["caption", "image"]),  # {interleaved} has no place for the picture
    ],
)
def test_texts_with_placeholders_go_into_interleaved_forms_and_nowhere_else(text, expected):
    fields = {"unique_id": "a", "source": "s", "modalities": ["text", "image"], "data_paths": {"image": "a.png"}}
    record = Record.model_validate({**fields, "text": text})
    parts = parts_of(LoadedRecord(record, text, images=(np.zeros((4, 4, 3), np.uint8),)))
    assert [template.name for template in fitting_templates(TEMPLATES, parts)] == expected
