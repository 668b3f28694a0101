import gzip
import json
import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmhydra.data.records import batches
from mmhydra.data.records.batches import list_files, read, scan
from mmhydra.errors import UserError


def values(files, records_per_batch, **limits):
    return [
        [
            (raw.place.rsplit("/", 1)[-1], raw.value, raw.fault)
            for raw in read(pickle.loads(pickle.dumps(ref)), **limits)
        ]
        for ref in scan(files, records_per_batch, **limits)
    ]


def parquet(path, rows, **options):
    pq.write_table(pa.Table.from_pylist(rows), path, **options)
    return path


def test_files_are_sorted_and_each_there_once(tmp_path):
    for name in ("b.jsonl", "a.jsonl", "deep/c.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = list_files(["*.jsonl", "a.jsonl", "**/*.parquet"], tmp_path)
    assert [path.name for path in found] == ["a.jsonl", "b.jsonl", "c.parquet"]


def test_a_pattern_without_match_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no record file matches \*\.jsonl in .*; give a path"):
        list_files(["*.jsonl"], tmp_path)


def test_a_folder_with_brackets_in_its_name(tmp_path):
    folder = tmp_path / "run [1]*"
    folder.mkdir()
    (folder / "a.jsonl").touch()
    assert list_files(["*.jsonl"], folder) == [folder / "a.jsonl"]
    assert list_files([str(tmp_path / "*" / "a.jsonl")], folder) == [folder / "a.jsonl"]


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "a.csv").touch()
    with pytest.raises(UserError, match=r"a\.csv: not a file of records; known are \*\.jsonl"):
        list_files(["*.csv"], tmp_path)


@pytest.mark.parametrize("opener", [open, gzip.open])
def test_lines_in_batches(tmp_path, opener):
    path = tmp_path / ("a.jsonl" if opener is open else "a.jsonl.gz")
    with opener(path, "wb") as file:
        file.write(b"\xef\xbb\xbfone\r\n\n  \nfour\nfive")
    assert values([path], 2) == [
        [(f"{path.name}:1", b"one", "")],
        [(f"{path.name}:4", b"four", "")],
        [(f"{path.name}:5", b"five", "unended")],
    ]


@given(
    lines=st.lists(st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"")), max_size=12),
    size=st.integers(1, 5),
    ended=st.booleans(),
)
def test_every_line_is_in_one_batch(tmp_path_factory, lines, size, ended):
    path = tmp_path_factory.mktemp("lines") / "a.jsonl"
    path.write_bytes(b"\n".join(lines) + (b"\n" if ended and lines else b""))
    found = [entry for batch in values([path], size, max_line_bytes=8) for entry in batch]
    numbers = [int(place.split(":")[1]) for place, _, _ in found]
    kept = [
        number
        for number, line in enumerate(lines, 1)
        if len(line) > 8 or line.removeprefix(b"\xef\xbb\xbf" if number == 1 else b"").strip()
    ]
    assert numbers == kept
    assert [fault == "line_too_long" for _, _, fault in found] == [len(lines[number - 1]) > 8 for number in numbers]


def test_a_line_beyond_the_limit_is_not_held(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"x" * 3_000_000 + b"\nnext\n")
    assert values([path], 10, max_line_bytes=1000) == [
        [("a.jsonl:1", b"", "line_too_long"), ("a.jsonl:2", b"next", "")]
    ]


def test_rows_of_parquet_in_batches_across_row_groups(tmp_path):
    path = parquet(tmp_path / "a.parquet", [{"n": n} for n in range(200)], row_group_size=90)
    batches = values([path], 40)
    assert [len(batch) for batch in batches] == [40, 40, 10, 40, 40, 10, 20]
    flat = [entry for batch in batches for entry in batch]
    assert flat == [(f"a.parquet:{n + 1}", {"n": n}, "") for n in range(200)]


@pytest.mark.parametrize("order", [1, -1, 3])
def test_batches_in_any_order_and_left_half_read(tmp_path, order):
    path = parquet(tmp_path / "a.parquet", [{"n": n} for n in range(300)], row_group_size=170)
    with gzip.open(tmp_path / "b.jsonl.gz", "wb") as file:
        file.write(b"".join(b"%d\n" % n for n in range(300)))
    refs = list(scan([path, tmp_path / "b.jsonl.gz"], 40))
    expected = {ref: list(read(ref)) for ref in refs}
    assert [len(found) for found in expected.values()] == [ref.num_records for ref in refs]
    for ref in refs[::order]:
        half, whole = read(ref), read(ref)
        assert next(half) == expected[ref][0]
        assert list(whole) == expected[ref]
        assert next(half) == expected[ref][1]
        half.close()
        assert list(read(ref)) == expected[ref]


@pytest.mark.parametrize("kind", ["parquet", "gzip"])
def test_what_stands_before_a_batch_is_unpacked_once(tmp_path, monkeypatch, kind):
    if kind == "parquet":
        path = parquet(tmp_path / "a.parquet", [{"n": n} for n in range(2000)])
    else:
        path = tmp_path / "a.jsonl.gz"
        path.write_bytes(gzip.compress(b"".join(b"%d\n" % n for n in range(2000))))
    refs = list(scan([path], 20))
    opened = []
    for name in ("RowStream", "LineStream"):
        real = getattr(batches, name)
        monkeypatch.setattr(batches, name, lambda *given, real=real: opened.append(given) or real(*given))
    assert sum(len(list(read(ref))) for ref in refs) == 2000
    assert sum(len(list(read(ref))) for ref in refs[1::2]) == 1000  # as one of two processes would
    assert len(opened) == 2


def test_a_file_that_was_replaced_is_read_anew(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b"1\n2\n3\n4\n"))
    refs = list(scan([path], 2))
    assert [raw.value for raw in read(refs[0])] == [b"1", b"2"]
    path.write_bytes(gzip.compress(b"5\n6\n7\n8888\n"))
    assert [raw.value for raw in read(refs[1])] == [b"7", b"8888"]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_parquet_that_is_cut_off_is_refused_by_name(tmp_path, share):
    path = parquet(tmp_path / "a.parquet", [{"text": str(n) * 50} for n in range(500)])
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UserError, match=r"a\.parquet: cannot read this file of records"):
        values([path], 40)


def test_parquet_with_damaged_pages_is_refused_by_name(tmp_path):
    rows = [{"text": json.dumps(list(range(n, n + 40)))} for n in range(500)]
    path = parquet(tmp_path / "a.parquet", rows, use_dictionary=False)
    content = bytearray(path.read_bytes())
    content[200:1200] = bytes(1000)
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.parquet: cannot read this file of records"):
        values([path], 40)


@pytest.mark.parametrize("cut", [1, 10, 40])
def test_gzip_that_is_cut_off_is_refused_by_name(tmp_path, cut):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b"".join(b"%d\n" % n**9 for n in range(100)))[:-cut])
    with pytest.raises(UserError, match=r"a\.jsonl\.gz: cannot read"):
        values([path], 10)


def test_a_file_that_shrank_since_the_scan_is_refused(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"1\n2\n3\n")
    refs = list(scan([path], 2))
    path.write_bytes(b"1\n")
    with pytest.raises(UserError, match="shorter than when its batches were found"):
        list(read(refs[0]))


def test_an_empty_file_has_no_batches(tmp_path):
    (tmp_path / "a.jsonl").touch()
    assert values([tmp_path / "a.jsonl"], 3) == []
