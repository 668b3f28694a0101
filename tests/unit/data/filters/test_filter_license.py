import pytest

from mmhydra.config.filters import LicenseFilter
from mmhydra.data.filters.license import LicenseJudge, spdx
from mmhydra.data.records.media import LoadedRecord
from mmhydra.data.records.record import Record
from mmhydra.errors import UserError


def reason(license, *allow):
    record = Record(unique_id="a", source="s", modalities=("text",), text="x", metadata={"license": license})
    judge = LicenseJudge(LicenseFilter(kind="license", allow=list(allow)))
    return judge.judge(LoadedRecord(record, text="x")).reason


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mit", "MIT"),
        ("Apache License,  Version 2.0", "Apache-2.0"),
        ("CC BY-SA 4.0", "CC-BY-SA-4.0"),
        ("cc-by-nc-nd-3.0", "CC-BY-NC-ND-3.0"),
        ("Creative Commons BY 4.0", "CC-BY-4.0"),
        ("CC0", "CC0-1.0"),
        ("YouTube Standard License", "LicenseRef-YouTube-Standard"),
        ("mit and (psf-2.0 or bsd-3-clause)", "MIT AND (PSF-2.0 OR BSD-3-Clause)"),
        ("bsd", None),  # of two, three or four clauses?
        ("Apache", None),
        ("Creative Commons Attribution", None),
        ("free to use", None),
        ("", None),
        ("(" * 5000, None),
        ("__import__('os')", None),
    ],
)
def test_names(name, expected):
    assert spdx(name) == expected


@pytest.mark.parametrize(
    ("license", "expected"),
    [
        ("MIT", None),
        ("mit", None),
        ("GPL-3.0-only", "license_not_allowed"),
        ("MIT OR GPL-3.0-only", None),
        ("MIT AND GPL-3.0-only", "license_not_allowed"),
        ("GPL-3.0-only OR MIT AND PSF-2.0", None),
        ("(GPL-3.0-only OR MIT) AND GPL-2.0-only", "license_not_allowed"),
        ("PSF-2.0 WITH Classpath-exception-2.0", None),
        ("LicenseRef-Ours", None),
        ("LicenseRef-Theirs", "license_not_allowed"),
        ("whatever", "license_unknown"),
        ("  ", "license_missing"),
        (None, "license_missing"),
    ],
)
def test_against_the_list(license, expected):
    assert reason(license, "mit", "PSF-2.0", "LicenseRef-Ours") == expected


@pytest.mark.parametrize("name", ["GPL3 or so", "MIT OR PSF-2.0", ""])
def test_a_list_holds_identifiers_only(name):
    with pytest.raises(UserError, match=r"filter license: allow has .*, which is no SPDX identifier; type one"):
        reason("MIT", name)
