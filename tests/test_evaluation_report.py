"""The page of a cross-site validation: complete, escaped, self-contained, and open in a browser."""

import re
import shutil
import subprocess
from base64 import b64decode
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression

from sklme.evaluation import _report_text as words
from sklme.evaluation._page import section, table
from sklme.evaluation._report import write_html
from sklme.evaluation.cross_site import cross_site_validate

matplotlib = pytest.importorskip("matplotlib")
import matplotlib.pyplot as plt  # noqa: E402

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
ODD = '<b>St. Mary & "Co"</b>'
HEADINGS = [
    "Over all sites",
    "Site by site",
    "Calibration",
    "Net benefit",
    "With rows of the new site",
    "Numbers of each site",
    "What was left out, and why",
    "How it was done",
    "Terms",
]


class Page(HTMLParser):
    """Tags with their attributes, in order, and the nesting of those that have an end."""

    VOID = frozenset(("meta", "link", "img", "br"))

    def __init__(self, text):
        super().__init__()
        self.tags, self.open = [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


def simulate():
    rng = np.random.default_rng(0)
    names = [ODD, *(f"clinic {s}" for s in range(1, 7))]
    site = np.repeat(names, 60)
    X = pd.DataFrame({"a": rng.normal(size=420), "b": rng.normal(size=420)})
    level = np.repeat(rng.normal(-0.4, 0.6, 7), 60)
    y = np.array(rng.random(420) < expit(level + X["a"]), dtype=int)
    y[site == "clinic 1"] = 0
    third = np.flatnonzero(site == "clinic 2")
    y[third] = np.arange(60) % 30 == 0
    return X, y, site


@pytest.fixture(scope="module")
def result():
    X, y, site = simulate()
    found = cross_site_validate(
        *(LogisticRegression(), X, y),
        **{"site": site, "target": "updated", "n_target": [0, 10], "thresholds": 0.3},
        **{"scoring": ["roc_auc", "calibration_slope", "oe_ratio"], "benchmark": 0.6},
        random_state=0,
    )
    left = pd.DataFrame({"site": ["<i>elsewhere</i>"], "n": [3], "reason": ["moved & closed"]})
    return replace(found, excluded=left)


@pytest.fixture(scope="module")
def path(result, tmp_path_factory):
    return write_html(result, tmp_path_factory.mktemp("page") / "report.html", 'A "<title>" & more')


@pytest.fixture(scope="module")
def text(path):
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


# What is in the page ----------------------------------------------------------------------------


def test_all_parts_are_there(text):
    assert re.findall(r"<h2[^>]*>(.*?)</h2>", text) == HEADINGS
    assert "<h1>A &quot;&lt;title&gt;&quot; &amp; more</h1>" in text


def test_nothing_comes_from_outside(page, text):
    for _, attributes in page.tags:
        for name in ("src", "href"):
            assert attributes.get(name, "data:").startswith("data:")
    assert not re.search(r"(src|href)\s*=\s*[\"']?\s*(https?:)?//", text)
    assert "@import" not in text and "url(" not in text
    assert page.all("script") == []
    policy = next(m for m in page.all("meta") if "http-equiv" in m)
    assert policy["content"].startswith("default-src 'none'")


def test_figures_are_pictures_with_a_text(page, result):
    images = page.all("img")
    n = len(result.metrics)
    assert len(images) == n + 2 + 1 + n  # forests, calibration twice, net benefit, learning curves
    for image in images:
        head, data = image["src"].split(",", 1)
        assert head == "data:image/svg+xml;base64"
        root = ElementTree.fromstring(b64decode(data, validate=True))
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert float(root.get("width").removesuffix("pt")) > 200
        assert len(image["alt"]) > 30
    assert plt.get_fignums() == []


def test_names_are_escaped(text):
    assert ODD not in text and "<i>elsewhere" not in text
    assert "&lt;b&gt;St. Mary &amp; &quot;Co&quot;&lt;/b&gt;" in text
    assert "&lt;i&gt;elsewhere&lt;/i&gt;" in text and "moved &amp; closed" in text


def test_every_site_has_its_numbers(text, result):
    tables = re.findall(r"<table>.*?</table>", text, flags=re.S)
    of_sites = [t for t in tables if "Learned from" in t]
    assert len(of_sites) == 2  # without and with rows of the site
    for part in of_sites:
        assert {unescape(s) for s in re.findall(r'<th scope="row"[^>]*>(.*?)</th>', part)} == set(
            result.table["site"]
        )
    row = result.table.query("metric == 'roc_auc' and site == 'clinic 3' and n_target == 0").iloc[0]
    cell = f"{row['estimate']:.2f}<span>[{row['lower']:.2f}, {row['upper']:.2f}]</span>"
    assert cell in of_sites[0]


def test_pooled_numbers_are_those_of_the_result(text, result):
    row = result.pooled.loc[("roc_auc", 10)]
    assert f"{row['mean']:.2f} [{row['lower']:.2f}, {row['upper']:.2f}]" in text
    assert f"[{row['prediction_lower']:.2f}, {row['prediction_upper']:.2f}]" in text
    assert f"<td>{100 * row['probability']:.0f} %</td>" in text


def test_what_is_missing_says_why(text, result):
    lost = result.table[(result.table["status"] != "ok") & (result.table["reason"] != "")]
    assert {"few events", "not estimable"} <= set(lost["status"])
    for reason in lost["reason"].unique():
        assert reason in unescape(text)


def test_tables_and_headings_help_a_screen_reader(page, text):
    assert page.tags[0] == ("html", {"lang": "en"})
    assert all(cell.get("scope") in ("row", "col") for cell in page.all("th"))
    assert text.count("<caption>") == len(page.all("table"))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert max(np.diff(levels)) <= 1
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["aria-labelledby"] for a in page.all("section")} <= set(ids)


def test_a_page_of_a_regression(tmp_path):
    X, _, site = simulate()
    found = cross_site_validate(LinearRegression(), X[["a"]], X["b"], site=site, scoring="mae")
    with plt.style.context("dark_background"):
        write_html(found, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Net benefit" not in text and "With rows of the new site" not in text
    first = re.search(r'src="data:image/svg\+xml;base64,([^"]+)"', text)[1]
    assert b"#ffffff" in b64decode(first) and b"fill: #000000" not in b64decode(first)[:1500]


def test_a_page_of_several_classes_through_the_result(tmp_path):
    X, _, site = simulate()
    three = np.digitize(X["a"] + X["b"], [-0.5, 0.5])
    found = cross_site_validate(LogisticRegression(), X, three, site=site, scoring="accuracy")
    found.to_html(tmp_path / "page.html", title="Three")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<h1>Three</h1>" in text and "<h2" in text
    assert ">Calibration</h2>" not in text


# Sentences --------------------------------------------------------------------------------------


def with_pooled(result, name, **values):
    """The same result with other pooled numbers of a metric."""
    pooled = result.pooled.copy()
    pooled.loc[(name, 0), list(values)] = list(values.values())
    return replace(result, pooled=pooled)


def test_summary_says_what_to_expect(result):
    found = with_pooled(
        *(result, "roc_auc"),
        **{"mean": 0.71, "lower": 0.62, "upper": 0.79, "n_sites": 12},
        **{"prediction_lower": 0.55, "prediction_upper": 0.83, "probability": 0.9},
    )
    first = words.summary(found)[0]
    assert first.startswith("At a new site, of which nothing is known, the AUC can be expected")
    assert "about 0.71 (mean of 12 sites, 95 % confidence interval 0.62 to 0.79)" in first
    assert "should lie between 0.55 and 0.83 (95 % prediction interval)." in first
    assert first.endswith("The probability that it is above 0.60 is 90 %.")
    assert any("after 10 of its rows with their outcome" in s for s in words.summary(found))


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.85, 1.2, "can be expected to hold"),
        (0.5, 1.2, "too wide to take a probability at its word"),
        (0.9, 3.0, "too wide to take a probability at its word"),
        (np.nan, np.nan, "what to expect of a single site is not known"),
    ],
)
def test_summary_judges_the_level(result, low, high, said):
    found = with_pooled(result, "oe_ratio", prediction_lower=low, prediction_upper=high)
    assert said in words.summary(found)[1]


@pytest.mark.parametrize(
    ("lower", "upper", "said"),
    [(0.5, 0.9, "too extreme on"), (1.1, 1.4, "too close to one"), (0.8, 1.2, "no sign that")],
)
def test_summary_judges_the_spread(result, lower, upper, said):
    found = with_pooled(result, "calibration_slope", lower=lower, upper=upper)
    assert said in words.summary(found)[2]


def test_summary_without_a_mean_says_why(result):
    found = with_pooled(result, "roc_auc", mean=np.nan, reason="no site could be pooled")
    assert "cannot be foretold: no site could be pooled." in words.summary(found)[0]


def test_how_names_settings_and_versions(result):
    pairs = dict(words.how(result, "2020-02-02"))
    assert pairs["Estimator"] == [result.settings["estimator"]]
    assert "restricted maximum likelihood" in pairs["Pooling over sites"]
    assert "outcome" in pairs["Known of the site that is predicted"]
    assert "scikit-learn" in pairs["Software"] and "Python" in pairs["Software"]
    assert pairs["Date of this page"] == "2020-02-02"
    assert pairs["Event"] == "class 1"


def test_pieces_escape_what_they_are_given():
    assert "<td>&lt;x&gt;</td>" in table("c", ["a", "b"], [["1", "<x>"]])
    assert '<td class="pale">2<span>3</span></td>' in table(
        "c", ["a", "b"], [["1", "2\n3"]], pale={(0, 1)}
    )
    assert section("Empty", "") == ""


# In a browser -----------------------------------------------------------------------------------

PROBE = """<script>
window.addEventListener("load", () => {
  const size = Array.from(document.images, i => i.naturalWidth * i.naturalHeight);
  const root = document.documentElement;
  document.body.dataset.pictures = size.filter(s => s > 0).length + " of " + size.length;
  document.body.dataset.wide = root.scrollWidth > root.clientWidth;
});
</script>"""


def open_page(path, profile, width=1200):
    """(document after loading, lines of the console) in headless Chromium."""
    command = [
        *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"),
        *("--v=0", f"--window-size={width},900", f"--user-data-dir={profile}", "--dump-dom"),
        path.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.browser
@pytest.mark.skipif(not BROWSER, reason="no Chromium is installed")
@pytest.mark.parametrize("width", [1200, 500])
def test_the_page_opens_in_a_browser(path, text, tmp_path, width):
    document, console = open_page(path, tmp_path / "as-it-is", width)
    assert console == []
    for heading in HEADINGS:
        assert f">{heading}</h2>" in document
    probed = tmp_path / "probed.html"  # the page allows no script, the probe needs one
    open_policy = text.replace(
        "default-src 'none'", "default-src 'none'; script-src 'unsafe-inline'"
    )
    probed.write_text(open_policy.replace("</body>", PROBE + "</body>"), encoding="utf-8")
    document, console = open_page(probed, tmp_path / "probed", width)
    assert console == []
    n = text.count("<img ")
    assert f'data-pictures="{n} of {n}"' in document
    assert 'data-wide="false"' in document  # nothing makes the page itself scroll sideways


@pytest.mark.browser
@pytest.mark.skipif(not BROWSER, reason="no Chromium is installed")
def test_the_console_would_show_a_fault(tmp_path):
    page = tmp_path / "fault.html"
    page.write_text("<p>text</p><script>missing()</script>", encoding="utf-8")
    assert any("missing" in line for line in open_page(page, tmp_path / "profile")[1])


@pytest.mark.filterwarnings("error")
def test_odd_sites_and_metrics_without_any_estimate(tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(120, 2)), rng.integers(2, size=120)
    names = np.array(["line\nbreak", "<b>&", "nan", "0"], dtype=object)
    result = cross_site_validate(
        DummyClassifier(), X, y, site=np.repeat(names, 30), groups=np.arange(120) // 2
    )
    path = tmp_path / "page.html"
    result.to_html(path)
    page = " ".join(unescape(path.read_text(encoding="utf-8")).split())
    assert "line break" in page and "120 rows are of 60 patients" in page
    assert "  line break  " in result.summary()
