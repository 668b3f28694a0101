"""Where a value comes from: files and overrides by hand, in each shape that YAML and the command line can give them."""

from pathlib import Path

import pytest
import yaml

from mmhydra.config.explain import Layer, Provenance


@pytest.fixture
def layer(tmp_path, monkeypatch):
    """A layer of a file with this text, named as it would be typed."""
    monkeypatch.chdir(tmp_path)

    def make(text: str, group: str = "", package: str = "", name: str = "") -> Layer:
        path = Path(tmp_path, f"{name or group.replace('/', '_') or 'root'}.yaml")
        path.write_text(text)
        return Layer.of_file(path, group, package)

    return make


def override(text: str, value: object = None, *, deletes: bool = False) -> Layer:
    key = text.lstrip("+~").partition("=")[0]
    return Layer.of_override(text, key, value, deletes=deletes)


def history(provenance: Provenance, key: str) -> list[tuple[str, str]]:
    return [(setting.text, setting.where) for setting in provenance.settings(key)]


def test_the_last_layer_is_in_force_and_the_older_ones_are_kept(layer):
    provenance = Provenance(
        [
            layer("# head\noptim:\n  lr: 1.0e-04\n  eps: 1\n"),
            layer("lr: 3.0e-03\n", "optim", "optim"),
            override("optim.lr=3e-4", 3e-4),
        ]
    )
    assert history(provenance, "optim.lr") == [
        ("1.0e-04", "root.yaml:3"),
        ("3.0e-03", "optim.yaml:1"),
        ("0.0003", "optim.lr=3e-4 (command line)"),
    ]
    assert provenance.where("optim.lr") == "optim.lr=3e-4 (command line)"
    assert provenance.where("optim.eps") == "root.yaml:4"
    assert provenance.where("optim.nope") == ""
    assert provenance.where("nope") == ""


def test_a_section_is_told_by_what_sets_it(layer):
    provenance = Provenance([layer("a:\n  b: 1\n"), layer("c: 2\n", "a", "a"), override("a.d=3", 3)])
    assert history(provenance, "a") == [("{b: 1}", "root.yaml:1"), ("{c: 2}", "a.yaml:1")]


def test_lists_replace_each_other_as_a_whole(layer):
    root = layer("s:\n  - {n: a, w: 1}\n  - n: b\n    w: 2\nt: [x, 'y, z']\n")
    assert history(Provenance([root]), "s.1.w") == [("2", "root.yaml:4")]
    assert history(Provenance([root]), "s.0.n") == [("a", "root.yaml:2")]
    assert history(Provenance([root]), "t.1") == [("'y, z'", "root.yaml:5")]
    assert history(Provenance([root]), "t") == [("[x, 'y, z']", "root.yaml:5")]
    assert history(Provenance([root]), "s") == [("[{n: a, w: 1}, {n: b, w: 2}]", "root.yaml:1")]
    assert history(Provenance([root]), "s.0.z") == [("left out", "root.yaml:2")]
    for key in ("s.2.n", "s.x", "s.-1", "t.1.z.a"):
        assert history(Provenance([root]), key) in ([], [("'y, z'", "root.yaml:5")])
    shorter = override("s=[{n: c}]", [{"n": "c"}])
    assert history(Provenance([root, shorter]), "s.0.n") == [
        ("a", "root.yaml:2"),
        ("c", "s=[{n: c}] (command line)"),
    ]
    assert history(Provenance([root, shorter]), "s.1.w") == []
    left_out = ("left out", "s=[{n: c}] (command line)")
    assert history(Provenance([root, shorter]), "s.0.w") == [("1", "root.yaml:2"), left_out]
    element = override("s.1.w=5", 5)
    assert history(Provenance([root, element]), "s.1.w")[-1] == ("5", "s.1.w=5 (command line)")
    assert history(Provenance([root, element]), "s.0.w")[-1] == ("1", "root.yaml:2")
    assert history(Provenance([root, element]), "s")[-1][1] == "root.yaml:1"


def test_a_null_section_takes_away_what_was_inside(layer):
    provenance = Provenance([layer("a: {b: 1}\n"), layer("a: null\n", "g"), layer("a: {c: 2}\n", "h")])
    assert history(provenance, "a.b") == [("1", "root.yaml:1"), ("null", "g.yaml:1")]
    assert history(provenance, "a.c") == [("null", "g.yaml:1"), ("2", "h.yaml:1")]


@pytest.mark.parametrize("text", ["a: null\n", "a: ~\n", "a:\n", "{a}\n"])
def test_all_spellings_of_null(layer, text):
    provenance = Provenance([layer(text)])
    assert history(provenance, "a") == [("null", "root.yaml:1")]
    assert provenance.describe(["a"]) == ["a = null  root.yaml:1"]


def test_empty_text_is_not_null(layer):
    assert history(Provenance([layer("a: ''\n")]), "a") == [("''", "root.yaml:1")]


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}\n", "---\n", "null\n"])
def test_an_empty_file_sets_nothing(layer, text):
    provenance = Provenance([layer("a: 1\n"), layer(text, "g"), layer(text, "h", "h")])
    assert history(provenance, "a") == [("1", "root.yaml:1")]
    assert provenance.collisions() == provenance.clashes() == []
    assert all("None" not in line for line in provenance.describe(["a", "h", "g"]))


@pytest.mark.parametrize(("package", "key"), [("", "x.y"), ("p", "p.x.y"), ("p.q", "p.q.x.y"), ("p.0", "p.0.x.y")])
def test_a_package_says_where_a_file_goes(layer, package, key):
    provenance = Provenance([layer("\nx:\n  y: 1\n", "g", package)])
    assert history(provenance, key) == [("1", "g.yaml:3")]
    assert history(provenance, "y") == []


def test_a_package_inside_of_a_value_makes_it_a_section(layer):
    provenance = Provenance([layer("a: {b: 1}\n"), layer("c: 2\n", "g", "a.b"), layer("d: 3\n", "h", "new.one")])
    assert history(provenance, "a.b") == [("1", "root.yaml:1"), ("{c: 2}", "g.yaml:1")]
    assert history(provenance, "a.b.c")[-1] == ("2", "g.yaml:1")
    assert history(provenance, "new") == [("{one: {d: 3}}", "h.yaml:1")]
    assert history(provenance, "a") == [("{b: 1}", "root.yaml:1")]


def test_deleted_and_set_again(layer):
    root = layer("a: {b: 1, c: 2}\n")
    deleted = Provenance([root, override("~a.b", deletes=True)])
    assert history(deleted, "a.b") == [("1", "root.yaml:1"), ("deleted", "~a.b (command line)")]
    assert deleted.describe(["a.b"]) == ["a.b = deleted  ~a.b (command line)"]
    assert history(deleted, "a.c") == [("2", "root.yaml:1")]
    whole = Provenance([root, override("~a", deletes=True), override("+a.b=3", 3)])
    assert [text for text, _ in history(whole, "a.b")] == ["1", "deleted", "3"]
    assert [text for text, _ in history(whole, "a.c")] == ["2", "deleted"]


def test_interpolations_stay_as_they_are_written(layer):
    provenance = Provenance([layer("a: ${b.c}\nb: {c: \"${oc.env:X,'y'}\"}\n"), override("d=${a}", "${a}")])
    assert history(provenance, "a") == [("${b.c}", "root.yaml:1")]
    assert history(provenance, "b.c") == [("\"${oc.env:X,'y'}\"", "root.yaml:2")]
    assert history(provenance, "d") == [("${a}", "d=${a} (command line)")]


def test_a_question_mark_in_a_file_leaves_what_was_there(layer):
    root, asking = layer("a: {b: 1}\n"), layer("a:\n  b: ???\n  c: ???\n", "g")
    assert history(Provenance([root, asking]), "a.b") == [("1", "root.yaml:1")]
    assert history(Provenance([root, asking]), "a.c") == [("???", "g.yaml:3")]
    assert history(Provenance([asking, root]), "a.b")[-1] == ("1", "root.yaml:1")
    assert history(Provenance([root, override("a.b=???", "???")]), "a.b")[-1][0] in ("???", "'???'")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": [1, {"c": None}], "d": True}, "{b: [1, {c: null}], d: true}"),
        ([], "[]"),
        ({}, "{}"),
        ("it's, a: {b}", '"it\'s, a: {b}"'),
        ("", "''"),
        ("null", "'null'"),
        ("5", "'5'"),
        ("true", "'true'"),
        (None, "null"),
        (1e-5, "1.0e-05"),
        ("two\nlines", r"'two\nlines'"),
        ("ü", "ü"),
        ([float("inf"), -0.0], "[.inf, -0.0]"),
    ],
)
def test_values_of_overrides_on_one_line(value, text):
    provenance = Provenance([override("a.b=x", value)])
    assert history(provenance, "a.b") == [(text, "a.b=x (command line)")]
    (line,) = provenance.describe(["a.b"])
    assert len(line.splitlines()) == 1
    assert line.startswith(f"a.b = {text}")


def test_an_override_with_a_line_break_stays_on_one_line():
    provenance = Provenance([override("a='x\ny'", "x\ny")])
    assert "\n" not in provenance.where("a")
    assert "\n" not in provenance.describe(["a"])[0]


def test_one_file_by_way_of_two_parents(layer, tmp_path):
    layer("b: 1\nc: 2\n", name="shared")
    shared = tmp_path / "shared.yaml"
    once, again = Layer.of_file(shared, "g", "a"), Layer.of_file(shared, "h", "z")
    provenance = Provenance([once, layer("a: {b: 5}\n"), again, Layer.of_file(shared, "g", "a")])
    assert history(provenance, "a.b") == [("1", "shared.yaml:1"), ("5", "root.yaml:1"), ("1", "shared.yaml:1")]
    assert history(provenance, "z.c") == [("2", "shared.yaml:2")]
    assert provenance.collisions() == []


def test_merge_keys_and_anchors(layer):
    text = "x: &x {p: 1, q: 2}\ny: &y {q: 3}\na:\n  <<: [*y, *x]\n  r: 4\nb: {<<: *x, p: 5}\nc: *x\n"
    provenance = Provenance([layer(text)])
    found = {key: provenance.settings(key)[-1].text for key in ("a.p", "a.q", "a.r", "b.p", "b.q", "c.q")}
    assert found == {"a.p": "1", "a.q": "3", "a.r": "4", "b.p": "5", "b.q": "2", "c.q": "2"}
    for key, setting in ((key, provenance.settings(key)[-1]) for key in found):
        section, leaf = key.split(".")
        assert str(yaml.safe_load(text)[section][leaf]) == setting.text
    assert history(provenance, "a") == [("{r: 4, q: 3, p: 1}", "root.yaml:3")]
    assert history(provenance, "a.p") == [("1", "root.yaml:1")]


def test_a_dotted_name_is_found_where_it_stands(layer):
    provenance = Provenance([layer("a: {b: 1}\n"), layer("\na.b: 5\n", "g")])
    assert history(provenance, "a.b")[-1] == ("5", "g.yaml:2")


def test_describe_lines_up_and_leaves_out_what_nothing_set(layer):
    provenance = Provenance([layer("a: 1\nlonger:\n  name: text\n"), override("b=2", 2)])
    assert provenance.describe(["a", "nope", "longer.name", "b"]) == [
        "a = 1               root.yaml:1",
        "longer.name = text  root.yaml:3",
        "b = 2               b=2 (command line)",
    ]
    assert provenance.describe([]) == provenance.describe(["nope"]) == []
    assert Provenance([]).describe(["a"]) == []


def test_collisions_are_between_groups_and_of_different_values(layer):
    one = layer("a: {b: 1.0e-4, c: 5, d: x, e: [1, 2], f: null}\n", "one")
    other = layer("b: 0.0001\nc: 6\nd: x\ne: [2, 1]\nf: {g: 1}\n", "other", "a")
    root = layer("a: {c: 0, d: 0}\n")
    provenance = Provenance([root, one, other, override("a.c=7", 7)])
    found = {collision.key: [setting.where for setting in collision.settings] for collision in provenance.collisions()}
    assert found == {"a.c": ["one.yaml:1", "other.yaml:2"], "a.e": ["one.yaml:1", "other.yaml:4"]}
    assert provenance.where("a.c") == "a.c=7 (command line)"


def test_two_files_of_one_group_do_not_collide(layer):
    one, other = layer("a: 1\n", "g", name="g1"), layer("a: 2\n", "g", name="g2")
    assert Provenance([one, other]).collisions() == []


@pytest.mark.parametrize(
    ("first", "second", "text"),
    [
        ("a: {b: 1}\n", "\na: [1]\n", "a list, where root.yaml:1 has a section"),
        ("a: [1]\n", "a: {b: 1}\n", "a section, where root.yaml:1 has a list"),
        ("hydra: {run: {dir: x}}\n", "hydra: null\n", "a value, where root.yaml:1 has a section"),
        ("a: 1\n", "- 1\n", "a list, where a section is needed"),
        ("a: 1\n", "text\n", "a value, where a section is needed"),
    ],
)
def test_what_can_not_be_merged(layer, first, second, text):
    (clash,) = Provenance([layer(first), layer(second, "g")]).clashes()
    assert str(clash) == text
    assert clash.setting.where in ("g.yaml:1", "g.yaml:2")


def test_values_and_sections_replace_each_other(layer):
    layers = [layer("a: {b: [1]}\n"), layer("a: {b: null}\n", "g"), layer("a: {b: {c: 1}}\n", "h")]
    assert Provenance(layers).clashes() == []
    assert Provenance([layer("a: {b: 1}\n"), layer("a: 5\n", "g")]).clashes() == []


def test_a_file_that_can_not_be_read_raises(tmp_path):
    with pytest.raises(OSError, match="nope"):
        Layer.of_file(tmp_path / "nope.yaml", "", "")
    (tmp_path / "broken.yaml").write_text("a: [\n")
    with pytest.raises(yaml.YAMLError):
        Layer.of_file(tmp_path / "broken.yaml", "", "")
