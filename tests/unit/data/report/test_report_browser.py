"""The governance report in a real Chromium: it draws, asks for nothing, and runs nothing."""

import json
import re

import pytest
from browser import Browser
from report_data import EVIL, evil_document, evil_examples

from mmhydra.data.report.page import write_report
from mmhydra.data.shards.manifest import Manifest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Browser:
    return Browser(chromium, tmp_path_factory.mktemp("browser"))


def test_all_plots_are_drawn_and_nothing_is_asked_for(browser, manifest, examples, tmp_path):
    write_report(tmp_path / "governance.html", manifest, examples)
    visit = browser.open(tmp_path / "governance.html")
    assert visit.console == []
    assert visit.requests == []
    assert len(re.findall("<svg", visit.dom)) == 20
    assert len(re.findall('<rect[^>]* class="bar ', visit.dom)) > 120
    assert "<title>demo-v2: governance report</title>" in visit.dom


def test_what_records_say_stays_text(browser, document, tmp_path):
    write_report(
        tmp_path / "governance.html",
        Manifest.model_validate_json(json.dumps(evil_document(document))),
        evil_examples(),
    )
    visit = browser.open(tmp_path / "governance.html")
    assert visit.console == [], "the policy has nothing to refuse"
    assert visit.requests == []
    assert "<script" not in visit.dom
    assert '<img src="x"' not in visit.dom
    # As the browser writes text: only & < > are escaped.
    shown = EVIL.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert f"<title>demo-v2{shown}: governance report</title>" in visit.dom
    assert visit.dom.count(shown) > 60


def test_a_page_that_does_wrong_is_seen(browser, manifest, tmp_path):
    # The same browser and questions, and pages with what must never be: the checks above can fail.
    write_report(tmp_path / "governance.html", manifest, [])
    page = (tmp_path / "governance.html").read_text()
    wrong = '<img src="http://127.0.0.1:9/x.png"><script>document.title="owned"</script>'
    (tmp_path / "refused.html").write_text(page.replace("<main>", f"<main>{wrong}"))
    refused = browser.open(tmp_path / "refused.html")
    assert len(refused.console) == 2, "the policy refuses the script and the picture"
    assert refused.requests == []
    assert "<title>demo-v2: governance report</title>" in refused.dom

    without_policy = re.sub('<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    (tmp_path / "allowed.html").write_text(without_policy.replace("<main>", f"<main>{wrong}"))
    allowed = browser.open(tmp_path / "allowed.html")
    assert allowed.requests == ["http://127.0.0.1:9/x.png"]
    assert "<title>owned</title>" in allowed.dom
