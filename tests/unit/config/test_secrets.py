"""Nothing secret is frozen, printed or left on disk. The secrets below are made up, and put together here: a text that
looks like one would be refused in this project's own diff."""

import os
import string
import sys
import time
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest
from git_repository import git, without_settings

from mmhydra import paths, train
from mmhydra.compose import Request, compose
from mmhydra.compose.request import LazyProvenance
from mmhydra.config.explain import Provenance
from mmhydra.config.frozen import flatten
from mmhydra.config.secret_patterns import kinds
from mmhydra.config.secrets import ALLOW, SecretError, find_in_patch, find_in_values, masked, refuse, reveal
from mmhydra.errors import UserError
from mmhydra.launch import submit as submit_module
from mmhydra.launch.freeze import Plan, freeze, read_origin
from mmhydra.launch.submit import submit
from mmhydra.launch.verify import verify
from mmhydra.run.directory import RunDirectory
from mmhydra.run.identity import identify
from mmhydra.run.provenance import read_code
from mmhydra.track.registry import build_sinks
from mmhydra.track.sink import RunInfo

ROOT = Path(train.__file__).parent.parent
MIXED = "aB3dE5gH7jK9mN1pQ2rS4tU6vW8xY0zA1bC3dE5fG7hJ9kL2mN4pQ6rS8tU0vW2xY4zA6bC8dE0fG2hJ4kL6mN8"
LETTERS = string.ascii_letters
LOWER = "a1b2c3d4e5f6g7h8j9k0m1n2p3q4r5s6t7u8v9w0x1y2z3a4b5c6d7e8f9g0h1j2"
HEX = "0123456789abcdef" * 8
HEADER = urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').decode().rstrip("=")
CLAIMS = urlsafe_b64encode(b'{"sub":"1234567890"}').decode().rstrip("=")

# One of each kind that has a format of its own: these are found in values too.
TOKENS = {
    "AWS Access Key": "AKIA" + "QWERTY7UIOP2ASDF",
    "Artifactory Credentials": "AKC" + MIXED[:60],
    "Azure Storage Account access key": "AccountKey" + "=" + MIXED[:86] + "==",
    "Basic Auth Credentials": "https://" + "anna:hunter" + "@example.org/x",
    "Cloudant Credentials": "https://" + "acc:" + HEX[:64] + "@acc.cloudant.com",
    "Discord Bot Token": "M" + MIXED[:23] + "." + MIXED[:6] + "." + MIXED[:27],
    "GitHub Token": "ghp" + "_" + MIXED[:36],
    "GitLab Token": "glpat" + "-" + MIXED[:20],
    "JSON Web Token": HEADER + "." + CLAIMS + "." + MIXED[:20],
    "Mailchimp Access Key": LOWER[:32] + "-us" + "12",
    "NPM tokens": "//registry.npmjs.org/:_auth" + "Token=npm_" + MIXED[:36],
    "OpenAI Token": "sk" + "-" + MIXED[:20] + "T3Blbk" + "FJ" + MIXED[:20],
    "Private Key": "-----BEGIN RSA " + "PRIVATE KEY-----",
    "PyPI Token": "pypi" + "-AgEIcHlwaS5v" + "cmc" + MIXED[:80],
    "SendGrid API Key": "SG" + "." + MIXED[:22] + "." + MIXED[:43],
    "Slack Token": "xoxb" + "-123456789012-" + LOWER[:24],
    "SoftLayer Credentials": "https://api." + "softlayer.com/soap/v3/" + LOWER[:64],
    "Square OAuth Secret": "sq0csp" + "-" + MIXED[:43],
    "Stripe Access Key": "sk" + "_live_" + MIXED[:24],
    "Telegram Bot Token": "123456789" + ":" + MIXED[:35],
    "Twilio API Key": "SK" + LOWER[:32],
    "Hugging Face token": "hf" + "_" + MIXED[:34],
    "API key": "sk" + "-proj-" + MIXED[:48],
}
# More forms of the same kinds.
FORMS = [
    ("Hugging Face token", "hf" + "_" + LETTERS[:34]),  # what it gives out holds letters only
    ("Hugging Face token", "api_org" + "_" + LETTERS[:34]),
    ("GitLab Token", "glpat" + "-" + LETTERS[:20]),
    ("API key", "sk" + "-ant-api03-" + MIXED[:60] + "_-" + MIXED[:31]),
    ("API key", "sk" + "-or-v1-" + HEX[:64]),
    ("Private Key", "-----BEGIN " + "PRIVATE KEY-----"),
    ("Private Key", "-----BEGIN OPENSSH " + "PRIVATE KEY-----"),
    ("Private Key", "PuTTY-User-" + "Key-File-2: ssh-rsa"),
    ("Basic Auth Credentials", "s3://" + "a:b" + "@host"),
    ("Slack Token", "https://hooks." + "slack.com/services/T0123/B4567/" + MIXED[:24]),
]
# Found by the name that they are given, so in files only.
ASSIGNED = [
    ("x.py", "api_" + f"key = '{MIXED[:32]}'"),
    ("x.py", "    pass" + f'word="{MIXED[:16]}",'),
    ("x.yaml", "pass" + f"word: {MIXED[:24]}"),
    ("x.ini", "db_pass" + f" = {MIXED[:24]}"),
    ("x.md", "sec" + f'ret: "{LOWER[:40]}"'),
]
HARMLESS = [
    HEX[:64],
    HEX[:40],
    "3f83c51a9fd0",
    "/home/anna/outputs/debug/3f83c51a9fd0/checkpoints/step-00000200",
    "https://example.org/datasets/mix-v0.2/0001.tar?x=1",
    "s3://bucket-2026/checkpoints/10b_pretrain",
    "aim://localhost:53800",
    "http://127.0.0.1:9464/metrics",
    "git@github.com:someone/something-2026.git",
    "sk-wikipedia-20260101-cleaned-and-deduplicated",  # Slovak
    "/data/sk-common-crawl-2026-01-01/shards",
    "hf_datasets_wikimedia_2026_01_01_en_de_fr_it",
    "task-0123456789-of-the-sweep-0123456789",
    "2026-01-02T03:04:05.678901+00:00",
    "550e8400-e29b-41d4-a716-446655440000",
    "<|image_start|>{image}<|image_end|>",
    "gs://some-bucket/tokenizers/qwen3-151936.json",
    "secret:AIM_REPOSITORY_0123456789",
]


def found(text: str, environment: dict[str, str] | None = None) -> list[str]:
    return [finding.kind for finding in find_in_values({"here": text}, environment or {})]


def patch_of(file: str, *lines: str, start: int = 1) -> bytes:
    added = "".join(f"+{line}\n" for line in lines)
    return (
        f"diff --git a/{file} b/{file}\n--- /dev/null\n+++ b/{file}\n@@ -0,0 +{start},{len(lines)} @@\n{added}".encode()
    )


def places(patch: bytes) -> list[str]:
    return [finding.place for finding in find_in_patch(patch, "code")]


# ---------------------------------------------------------------- values


@pytest.mark.parametrize(("kind", "token"), [*TOKENS.items(), *FORMS])
@pytest.mark.parametrize("around", ["{}", "run with {} now"])
def test_each_kind_is_found_in_a_value_and_never_repeated(kind, token, around):
    findings = list(find_in_values({"track.aim.repo": around.format(token)}, {}))
    assert kind in {finding.kind.partition(";")[0] for finding in findings}
    assert {finding.place for finding in findings} == {"track.aim.repo"}
    assert all("take it out, or for a tracker write ${secret:NAME}" in finding.kind for finding in findings)
    assert token not in str(findings)


@pytest.mark.parametrize("text", HARMLESS)
def test_no_false_alarm(text):
    assert found(text) == []
    assert places(patch_of("conf/data/mix.yaml", f"path: {text}", f"  - '{text}'")) == []
    assert places(patch_of("mmhydra/x.py", f'x = "{text}"', f"# {text}")) == []


def test_the_value_of_a_variable_is_told_by_the_name_of_the_variable():
    value = "correct horse battery"
    environment = {"LAB_TOKEN": value, "HOME": "/home/anna"}
    (finding,) = find_in_values({"tag": f"x {value} y"}, environment)
    assert finding.place == "tag"
    assert finding.kind.startswith("the value of $LAB_TOKEN; take it out, or for a tracker write ${secret:LAB_TOKEN}")
    assert found("correct horse", environment) == []


@pytest.mark.parametrize(
    ("name", "value", "counts"),
    [
        ("API_KEY", "abcdefgh", True),
        ("api_key", "abcdefgh", True),
        ("MY_PASSWD", "abcdefgh", True),
        ("DB_PASSWORD_2", "abcdefgh", True),
        ("AWS_SECRET_ACCESS_KEY", "abcdefgh", True),
        ("SOME_TOKEN", "https://anna@example.org", True),
        ("SOME_TOKEN", "abcdefg", False),  # too short: it would be found everywhere
        ("LANGUAGE", "abcdefgh", False),
        ("SSH_KEY_FILE", "/home/anna/.ssh/id", False),
        ("SSH_KEY_FILE", "~/.ssh/id_rsa", False),
        ("SECRETS_URL", "https://vault.example.org", False),
        ("SECRET_BUCKET", "s3://bucket/folder", False),
    ],
)
def test_which_variables_count(name, value, counts):
    assert bool(found(f"x{value}x", {name: value})) == counts


def test_all_findings_are_told_at_once_without_the_secrets():
    values = {f"key.{kind}": token for kind, token in TOKENS.items()}
    with pytest.raises(SecretError) as refusal:
        refuse(find_in_values(values, {}))
    text = str(refusal.value)
    assert text.startswith("a run is written down for ever, so nothing secret may be in it:\n")
    for kind, token in TOKENS.items():
        assert f"  key.{kind}: {kind};" in text
        assert token not in text


def test_nothing_found_is_no_refusal():
    refuse([])


# ---------------------------------------------------------------- command lines


@pytest.fixture
def command(monkeypatch, tmp_path, capfdbinary):
    """Runs a command line that must be refused; returns what it says. Nothing may be left anywhere."""
    monkeypatch.delenv("MMHYDRA_CLUSTER", raising=False)
    monkeypatch.setenv("MMHYDRA_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MMHYDRA_OUTPUTS", str(tmp_path / "outputs"))

    def run(*arguments: str) -> str:
        before = sorted(tmp_path.rglob("*"))
        monkeypatch.setattr(sys, "argv", ["train", *arguments])
        assert train.main() == 2
        out, err = capfdbinary.readouterr()
        assert out == b""
        assert sorted(tmp_path.rglob("*")) == before
        return err.decode()

    return run


@pytest.mark.parametrize("dry_run", [[], ["dry_run=config"]])
def test_a_secret_on_the_command_line_is_refused(command, dry_run):
    token = TOKENS["GitHub Token"]
    told = command(f"tag={token}", *dry_run)
    assert "nothing secret may be in it" in told
    assert "  tag (command line): GitHub Token; take it out, or for a tracker write" in told
    assert token not in told


def test_a_secret_in_a_section_is_told_with_its_key(command):
    token = TOKENS["GitHub Token"]
    told = command(f"track.aim={{repo: {token}}}")
    assert "  track.aim (command line): GitHub Token" in told
    assert token not in told


def test_a_secret_in_a_list_is_told_with_its_key(command):
    token = TOKENS["GitHub Token"]
    told = command(f"tokens.special=['<|a|>',{token}]")
    assert "  tokens.special (command line): GitHub Token" in told
    assert token not in told


def test_a_secret_in_a_group_of_the_user_is_refused(command, tmp_path):
    token = TOKENS["Slack Token"]
    (tmp_path / "conf" / "lab").mkdir(parents=True)
    (tmp_path / "conf" / "lab" / "a.yaml").write_text(f"# @package _global_\ntag: {token}\n")
    told = command("--config-dir", str(tmp_path / "conf"), "+lab=a")
    assert "conf/lab/a.yaml:2): Slack Token" in told
    assert "override" not in told
    assert token not in told


def test_a_secret_in_a_sweep_is_refused(command):
    token = TOKENS["GitHub Token"]
    told = command("-m", f"tag={token}", "dry_run=config")
    assert "  tag (command line): GitHub Token" in told
    assert token not in told


@pytest.mark.parametrize("override", ["tag='{}'", "tag='say {} to all'", "tag='${{oc.env:LAB_PASSWORD}}'"])
def test_what_a_variable_holds_is_refused_by_name(command, monkeypatch, override):
    value = "correct horse battery"
    monkeypatch.setenv("LAB_PASSWORD", value)
    told = command(override.format(value))
    assert (
        "  tag (command line): the value of $LAB_PASSWORD; take it out, or for a tracker write ${secret:LAB_PASSWORD},"
        in told
    )
    assert value not in told


# ---------------------------------------------------------------- ${secret:NAME}


def request_of(tmp_path, *overrides: str) -> Request:
    return compose([*overrides, f"paths.outputs={tmp_path / 'outputs'}", f"paths.data={tmp_path / 'data'}"])


def holds(folder: Path, text: str) -> list[Path]:
    """Files that hold a text, and paths that do."""
    found = [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]
    return [*found, *(path for path in folder.rglob("*") if text in path.name)]


def frozen(tmp_path, request: Request) -> RunDirectory:
    identity = identify(request.config, {}, None)
    run = RunDirectory(tmp_path / "outputs" / "debug" / identity.run_id)
    freeze(Plan(request, {}, identity, run), read_origin(request, run))
    return run


def test_the_name_is_frozen_and_the_value_is_nowhere(tmp_path, monkeypatch):
    value = "correct-horse-battery"
    monkeypatch.setenv("LAB_BOARD", value)
    monkeypatch.setattr(paths, "checkout", lambda: None)
    arguments = ["track=tensorboard", "track.tensorboard.logdir='${secret:LAB_BOARD}'"]
    monkeypatch.setattr(sys, "argv", ["train", *arguments])
    request = request_of(tmp_path, *arguments)
    verify(request)
    run = frozen(tmp_path, request)
    text = (run.attempts[0].path / "config.yaml").read_text()
    assert "logdir: secret:LAB_BOARD\n" in text
    assert holds(tmp_path / "outputs", "secret:LAB_BOARD")
    assert holds(tmp_path / "outputs", value) == []


def test_only_trackers_read_secrets(tmp_path):
    with pytest.raises(SecretError, match=r"tag: .* is read by trackers alone"):
        verify(request_of(tmp_path, "tag='${secret:LAB_SECRET}'"))


def test_a_secret_of_a_wrong_type_is_not_repeated(command):
    token = TOKENS["GitHub Token"]
    assert token not in command(f"optim.lr={token}", "dry_run=config")


def test_a_value_that_is_not_set_is_frozen_all_the_same(tmp_path, monkeypatch):
    """Another machine may know it: a dry run and a submission need no secret."""
    monkeypatch.delenv("LAB_BOARD", raising=False)
    request = request_of(tmp_path, "track=tensorboard", "track.tensorboard.logdir='${secret:LAB_BOARD}'")
    assert request.config.track.tensorboard.logdir == "secret:LAB_BOARD"


def test_reveal():
    assert reveal("secret:LAB_BOARD", {"LAB_BOARD": "x"}) == "x"
    assert reveal("secret:LAB_BOARD", {"LAB_BOARD": ""}) == ""
    for text in ("", "a secret:LAB_BOARD", "Secret:LAB_BOARD", "/secret:LAB_BOARD"):
        assert reveal(text, {}) == text


def test_a_variable_that_is_not_set_is_told_with_what_to_type():
    with pytest.raises(SecretError, match=r"\$LAB_BOARD is not set, .* takes a secret from it; type export LAB_BOARD="):
        reveal("secret:LAB_BOARD", {"OTHER": "x"})


def sinks(tmp_path) -> dict:
    info = RunInfo("0123456789ab", "debug", "debug", {}, HEX[:64], None, 1)
    settings = {"tensorboard": {"logdir": "secret:LAB_BOARD"}, "prometheus": {"host": "secret:LAB_HOST", "port": 1}}
    return build_sinks(settings, info, tmp_path / "attempt")


def test_the_job_reads_the_variable_where_it_uses_the_value(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_BOARD", str(tmp_path / "board"))
    monkeypatch.setenv("LAB_HOST", "127.0.0.1")
    build = sinks(tmp_path)["tensorboard"]
    build().close()
    assert (tmp_path / "board").is_dir()
    assert sorted(os.listdir(tmp_path)) == ["board"]


def test_a_job_without_the_variable_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_BOARD", str(tmp_path / "board"))
    monkeypatch.delenv("LAB_HOST", raising=False)
    with pytest.raises(SecretError, match=r"\$LAB_HOST is not set"):
        sinks(tmp_path)
    assert os.listdir(tmp_path) == []


# ---------------------------------------------------------------- the uncommitted diff


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A commit of a long file; `read_code` takes it for the checkout."""
    without_settings(monkeypatch, tmp_path)
    root = tmp_path / "checkout"
    root.mkdir()
    git(root, "init", "--quiet")
    (root / "long.py").write_text("".join(f"line {number}\n" for number in range(1, 101)))
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "-m", "first")
    monkeypatch.setattr(paths, "checkout", lambda: root)
    return root


def in_diff() -> list[str]:
    return places(read_code()[1])


def lines_of(path: Path, changes: dict[int, str | None]) -> None:
    """Replaces lines by number; None removes one."""
    lines = path.read_text().split("\n")
    path.write_text(
        "\n".join(text for number, line in enumerate(lines, 1) if (text := changes.get(number, line)) is not None)
    )


@pytest.mark.parametrize(("kind", "token"), [*TOKENS.items(), *FORMS])
def test_each_kind_is_found_in_a_diff_and_never_repeated(kind, token):
    findings = list(find_in_patch(patch_of("a/x.py", "harmless", f"x = {token}"), "code"))
    assert kind in {finding.kind.partition(";")[0] for finding in findings}
    assert {finding.place for finding in findings} == {"code/a/x.py:2"}
    assert token not in str(findings)
    assert f"take it out, or mark a harmless line with `{ALLOW}`" in findings[0].kind


@pytest.mark.parametrize(("file", "line"), ASSIGNED)
def test_what_a_file_assigns_to_a_telling_name_is_found(file, line):
    assert places(patch_of(file, "harmless", line)) == [f"code/{file}:2"]
    assert found(line) == []  # a value has no name of its own


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("x.yaml", "password: ${secret:DATABASE_PASSWORD_2026}"),
        ("x.yaml", "password: ${oc.env:DATABASE_PASSWORD_2026}"),
        ("x.yaml", "repo: ${secret:AIM_REPOSITORY_0123456789}"),
        ("x.py", 'password = os.environ["DATABASE_PASSWORD_2026"]'),
        ("x.py", "api_key = read_the_key_0123456789()"),
        ("x.yaml", "tokenizer: qwen3-tokenizer-151936"),
    ],
)
def test_a_name_in_place_of_the_secret_is_no_secret(file, line):
    assert places(patch_of(file, line)) == []


def test_file_and_line_are_right_after_several_hunks(repository):
    token = TOKENS["GitHub Token"]
    lines_of(repository / "long.py", {3: None, 4: None, 30: f"x\ny\n{token}", 60: token, 61: None, 100: f"z\n{token}"})
    text = (repository / "long.py").read_text().split("\n")
    expected = [number for number, line in enumerate(text, 1) if token in line]
    assert len(expected) == 3
    assert in_diff() == [f"code/long.py:{number}" for number in expected]


def test_untracked_and_staged_files_and_files_without_a_last_newline(repository):
    token = TOKENS["GitHub Token"]
    (repository / "new").mkdir()
    (repository / "new" / "a.txt").write_text(f"one\ntwo\n{token}")
    (repository / "staged.py").write_text(f"{token}\n")
    git(repository, "add", "staged.py")
    (repository / "z.py").write_text(f"\n{token}\n")
    assert in_diff() == ["code/new/a.txt:3", "code/staged.py:1", "code/z.py:2"]


@pytest.mark.parametrize("name", ["with blank.py", "ünicode.py", 'quo"te.py', "tab\there.py"])
@pytest.mark.parametrize("quotes", ["true", "false"])
def test_file_names_of_all_kinds_are_told_as_they_are(repository, name, quotes):
    git(repository, "config", "core.quotePath", quotes)
    (repository / name).write_text(f"\n{TOKENS['GitHub Token']}\n")
    assert in_diff() == [f"code/{name}:2"]


def test_an_ignored_file_is_no_part_of_the_code(repository):
    (repository / ".gitignore").write_text(".env\n")
    (repository / ".env").write_text(TOKENS["GitHub Token"])
    assert in_diff() == []


def test_deleted_and_unchanged_lines_do_not_count(repository):
    token = TOKENS["GitHub Token"]
    lines_of(repository / "long.py", {50: token, 52: token})
    git(repository, "commit", "--quiet", "-am", "too late")
    assert in_diff() == []
    lines_of(repository / "long.py", {50: None})  # 52 is context now
    assert read_code()[1].count(token.encode()) == 2
    assert in_diff() == []
    (repository / "long.py").unlink()
    assert in_diff() == []


def test_a_line_that_is_marked_is_let_pass_and_no_other(repository):
    token = TOKENS["GitHub Token"]
    (repository / "a.py").write_text(f"x = '{token}'  # {ALLOW}\ny = '{token}'\n")
    assert in_diff() == ["code/a.py:2"]
    assert ALLOW == "pragma: allowlist secret"


def test_added_lines_that_look_like_the_diff_s_own_do_not_mislead(repository):
    token = TOKENS["GitHub Token"]
    text = ["++ b/other.py", "@@ -1,9 +900,9 @@", "-- a/x", token, "+++ b/more.py", f"++ {token}", "diff --git a/q b/q"]
    (repository / "a.patch").write_text("\n".join([*text, token]) + "\n")
    assert in_diff() == ["code/a.patch:4", "code/a.patch:6", "code/a.patch:8"]


@pytest.mark.parametrize("separator", ["\f", "\r", "\v", "\x85", "\u2028", "\x1c"])
def test_only_a_newline_ends_a_line(repository, separator):
    """Python's own files hold form feeds; what stands behind one is searched, and lines are counted as editors do."""
    token = TOKENS["GitHub Token"]
    (repository / "a.py").write_text(f"one{separator}{token}\ntwo\n{token}\n")
    assert in_diff() == ["code/a.py:1", "code/a.py:3"]


def test_windows_line_ends(repository):
    (repository / "a.py").write_bytes(b"one\r\n" + TOKENS["GitHub Token"].encode() + b"\r\n")
    assert in_diff() == ["code/a.py:2"]


def test_binary_files_and_bytes_that_are_no_text_end_nothing(repository):
    (repository / "a.bin").write_bytes(os.urandom(20_000))
    (repository / "b.txt").write_bytes(b"\xff\xfe\n" + TOKENS["GitHub Token"].encode() + b"\n")
    assert in_diff() == ["code/b.txt:2"]


@pytest.mark.parametrize("text", ["a" * 300_000, "-" * 300_000, MIXED * 3000, '"a1b2c3d4e5f6g7h8",' * 10_000])
def test_a_long_line_takes_no_long_time(text):
    start = time.monotonic()
    assert places(patch_of("x.txt", text)) == []
    assert time.monotonic() - start < 10


def test_this_project_raises_no_false_alarm():
    """All that ships, and these tests, as if it were not yet committed."""
    for folder in ("mmhydra", "conf", "docs", "tests", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".yaml", ".md", ".txt", ".json"):
                lines = path.read_text().split("\n")
                assert places(patch_of(str(path.relative_to(ROOT)), *lines)) == []


@pytest.mark.parametrize("experiment", [None, "p0_demo", "alpha_1b", "10b_pretrain"])
def test_no_shipped_config_raises_a_false_alarm(experiment):
    config = compose([] if experiment is None else [f"experiment={experiment}"]).config
    assert {
        key: kinds(str(value), None) for key, value in flatten(config.model_dump()).items() if kinds(str(value), None)
    } == {}


def start(tmp_path, monkeypatch, config_dirs=()) -> None:
    """What `submit` does with a request once its data is there."""
    config = request_of(tmp_path).config
    request = Request(
        config, (), None, confirm=False, origins=LazyProvenance(lambda: Provenance([])), config_dirs=config_dirs
    )
    identity = identify(config, {}, None)
    run = RunDirectory(tmp_path / "outputs" / "debug" / identity.run_id)
    monkeypatch.setattr(submit_module, "plan", lambda request, on_progress: Plan(request, {}, identity, run))
    monkeypatch.setattr(submit_module, "verify_with_data", lambda request, manifests: None)
    monkeypatch.setattr(submit_module, "run_local", lambda *arguments: pytest.fail("it was started"))
    submit([request])


def test_a_secret_in_the_diff_refuses_the_launch_and_nothing_is_written(tmp_path, monkeypatch, repository, capsys):
    token = TOKENS["GitHub Token"]
    lines_of(repository / "long.py", {7: f"x = '{token}'"})
    with pytest.raises(SecretError) as refusal:
        start(tmp_path, monkeypatch)
    assert "  code/long.py:7: GitHub Token; take it out" in str(refusal.value)
    assert token not in str(refusal.value) + "".join(capsys.readouterr())
    assert not (tmp_path / "outputs").exists()


def test_a_secret_in_the_diff_of_a_config_folder_refuses_the_launch(tmp_path, monkeypatch, repository, capsys):
    token = TOKENS["GitHub Token"]
    lab = tmp_path / "lab"
    lab.mkdir()
    git(lab, "init", "--quiet")
    git(lab, "commit", "--quiet", "--allow-empty", "-m", "first")
    (lab / "conf" / "lab").mkdir(parents=True)
    (lab / "conf" / "lab" / "a.yaml").write_text(f"one: 1\n# {token}\n")
    with pytest.raises(SecretError) as refusal:
        start(tmp_path, monkeypatch, (tmp_path, lab / "conf"))
    assert "  config-2/conf/lab/a.yaml:2: GitHub Token" in str(refusal.value)
    assert token not in str(refusal.value) + "".join(capsys.readouterr())
    assert not (tmp_path / "outputs").exists()


def test_a_library_that_repeats_a_secret_is_masked():
    environment = {"AIM_KEY": "s3cret-value", "EMPTY": ""}
    text = masked("NotADirectoryError: 's3cret-value'", ["AIM_KEY", "EMPTY", "UNSET"], environment)
    assert text == "NotADirectoryError: '${secret:AIM_KEY}'"


def test_a_value_of_a_wrong_type_that_looks_secret_is_not_repeated(default_config, change):
    token = "ghp_" + "a1B2" * 9
    with pytest.raises(UserError, match="valid integer, got 'what looks like a secret'") as refusal:
        change(default_config, {"training.steps": token})
    assert token not in str(refusal.value)
