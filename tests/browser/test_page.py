"""Pages to look at spectra, as Chromium shows them.

Chromium, its driver and selenium are needed: `nox -s browser`.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import write_hdus
from sdss_files import write_spec

from qnp_xp import classify, inspect
from qnp_xp._data import DEMO_COADD, data_file
from qnp_xp.io._match import match
from qnp_xp.io._truth import Kind, open_truth
from qnp_xp.io.open import open_spectra
from qnp_xp.io.tables import read_catalog, write_catalog
from qnp_xp.plot._views import smooth_flux

webdriver = pytest.importorskip("selenium.webdriver", reason="no selenium")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
CHROMEDRIVER = shutil.which("chromedriver")
if not CHROMIUM or not CHROMEDRIVER:
    pytest.skip("Chromium or its driver is not installed", allow_module_level=True)

from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

DEMO = data_file(DEMO_COADD)
FIRST = 39627000000000001  # TARGETID of its first row
WIDE, PHONE = (1280, 800), (390, 844)
SECONDS = 30
NO_NUMBER = "\N{EN DASH}"


def records(path: Path) -> list[dict[str, str]]:
    """Rows of a csv."""
    return list(csv.DictReader(path.read_text("utf-8").splitlines()))


class Browser:
    """A page in Chromium, and what somebody does with it."""

    def __init__(self, driver: Any, downloads: Path) -> None:
        self.driver, self.downloads = driver, downloads

    def open(self, page: Path, *, fresh: bool = True) -> None:
        """Open a page, without what is kept of an earlier visit if it is `fresh`."""
        self.driver.get(page.as_uri())
        if fresh:
            self.js("localStorage.clear()")
            self.driver.get(page.as_uri())
        self.wait(lambda: self.drawn() > 0)

    def drawn(self) -> float:
        """Milliseconds from opening to the first spectrum, 0 before."""
        marks = "performance.getEntriesByName('spectrum drawn')"
        return float(self.js(f"return {marks}[0]?.startTime ?? 0"))

    def js(self, code: str, *arguments: Any) -> Any:
        return self.driver.execute_script(code, *arguments)

    def model(self, name: str, expression: str) -> Any:
        """Look something up of a model of the figure, which is called `m`."""
        model = "Bokeh.documents[0].get_model_by_name(arguments[0])"
        return self.js(f"const m = {model}; return {expression}", name)

    def wait(self, done: Callable[[], Any]) -> Any:
        end = time.monotonic() + SECONDS
        while not (found := done()):
            assert time.monotonic() < end
            time.sleep(0.02)
        return found

    def type(self, *keys: str) -> None:
        ActionChains(self.driver).send_keys(*keys).perform()

    def element(self, name: str) -> Any:
        return self.driver.find_element(By.ID, name)

    def text(self, name: str) -> str:
        return str(self.element(name).text)

    def rows(self) -> list[list[str]]:
        """Texts of the list, row by row as it is shown."""
        cells = "[...r.cells].map((c) => c.textContent)"
        rows = f"[...document.querySelectorAll('#rows tr')].map((r) => {cells})"
        found: list[list[str]] = self.js(f"return {rows}")
        return found

    def redshift(self) -> float:
        return float(self.js("return document.getElementById('redshift').value"))

    def place(self, wave: float) -> tuple[float, float]:
        """Where a wavelength is on the screen, a third of the panel's height down."""
        box = self.js(
            "const view = Bokeh.index.roots[0].owner.query_one("
            "(v) => v.model.name === 'spectrum');"
            "const { left, top } = view.el.getBoundingClientRect();"
            "const { bbox } = view.frame;"
            "return [left + bbox.left, top + bbox.top, bbox.width, bbox.height]"
        )
        start, end = self.model("wave", "[m.start, m.end]")
        return box[0] + box[2] * (wave - start) / (end - start), box[1] + box[3] / 3

    def drag(self, wave: float, pixels: int, offset: int = 0) -> None:
        """Drag with the mouse, from some pixels beside a wavelength."""
        x, y = self.place(wave)
        action = ActionChains(self.driver)
        pointer = action.w3c_actions.pointer_action
        pointer.move_to_location(round(x + offset), round(y)).pointer_down()
        for step in range(1, 6):
            pointer.move_to_location(round(x + offset + pixels * step / 5), round(y))
        pointer.pointer_up()
        action.perform()

    def save(self) -> Path:
        """Save the csv."""
        for path in self.downloads.iterdir():
            path.unlink()
        self.element("save").click()
        (path,) = self.wait(lambda: list(self.downloads.glob("*.csv")))
        return Path(path)

    def load(self, path: Path) -> str:
        """Load a csv, and give what the page says of it."""
        self.js("document.getElementById('message').textContent = ''")
        self.element("file").send_keys(str(path))
        return str(self.wait(lambda: self.text("message")))

    def size(self, width: int, height: int, *, touch: bool = False) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1}
        command = "Emulation.setDeviceMetricsOverride"
        self.driver.execute_cdp_cmd(command, {**metrics, "mobile": touch})

    def errors(self) -> list[str]:
        """What went wrong, as the console has it."""
        entries = self.driver.get_log("browser")
        return [x["message"] for x in entries if x["level"] in ("SEVERE", "WARNING")]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium without a screen."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    settings = "headless=new no-sandbox disable-gpu no-first-run disable-sync"
    settings += " disable-background-networking disable-component-update"
    for setting in settings.split():
        options.add_argument(f"--{setting}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(CHROMEDRIVER)
    driver = webdriver.Chrome(options, service)
    yield driver
    driver.quit()


@pytest.fixture
def browser(driver: Any, tmp_path: Path) -> Browser:
    """Chromium in the size of a desktop."""
    folder = tmp_path / "downloads"
    folder.mkdir()
    settings = {"behavior": "allow", "downloadPath": str(folder)}
    driver.execute_cdp_cmd("Browser.setDownloadBehavior", settings)
    found = Browser(driver, folder)
    found.size(*WIDE)
    found.errors()
    return found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of the demo, from a table with redshifts Z_FIT."""
    folder = tmp_path_factory.mktemp("page")
    path = folder / "qn.fits"
    old = classify(DEMO, output=path, c_thresh=0.8)
    table = np.zeros(old.size, [*old.dtype.descr, ("Z_FIT", "f8")])
    for name in old.dtype.names:
        table[name] = old[name]
    table["Z_FIT"] = old["Z_QN"] + 0.01
    cards = [(k, v, c) for k, (v, c) in read_catalog(path)[1].items() if k != "QNHASH"]
    write_catalog(path, table, cards, overwrite=True)
    return inspect(DEMO, output=folder / "demo.html", table=path)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of 300 spectra of 7800 pixels."""
    folder = tmp_path_factory.mktemp("large")
    with open_spectra(DEMO) as source:
        rows = np.resize(np.arange(source.n), 300)
        rng = np.random.default_rng(5)
        hdus: dict[str, Any] = {"FIBERMAP": np.zeros(300, [("TARGETID", "i8")])}
        hdus["FIBERMAP"]["TARGETID"] = FIRST + np.arange(300)
        for arm, (wave, flux, ivar) in zip(source.arms, source.read(rows), strict=True):
            noise = rng.normal(size=flux.shape) * np.where(ivar > 0, ivar, 1) ** -0.5
            hdus[f"{arm.name}_WAVELENGTH"] = wave
            hdus[f"{arm.name}_FLUX"] = (flux + noise).astype("f4")
            hdus[f"{arm.name}_IVAR"] = (ivar / 2).astype("f4")
    return inspect(write_hdus(folder / "coadd.fits", hdus), output=folder / "all.html")


def test_300_spectra_are_small_and_the_first_is_there_in_two_seconds(
    browser: Browser, large: Path
) -> None:
    assert large.stat().st_size < 15e6
    times = []
    for _ in range(3):
        browser.open(large)
        times.append(browser.drawn())
    # Where other programs want the cores as well, it takes as much longer.
    shared = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    assert min(times) < 2000 * shared
    assert len(browser.rows()) == 300
    assert browser.errors() == []


def test_nothing_is_fetched(browser: Browser, page: Path) -> None:
    browser.open(page)
    fetched = browser.js("return performance.getEntriesByType('resource').length")
    assert fetched == 0
    assert browser.errors() == []


# What is drawn.


def test_numbers_and_smoothing_are_those_of_pictures(
    browser: Browser, page: Path
) -> None:
    browser.open(page)
    with open_spectra(DEMO) as source:
        arms = list(source.read(np.asarray([0])))
    for width in (5, 0, 12):
        slider = browser.element("smooth")
        event = "arguments[0].dispatchEvent(new Event('input'))"
        browser.js(f"arguments[0].value = {width}; {event}", slider)
        for number, (wave, flux, ivar) in enumerate(arms):
            columns = "Object.entries(m.data).map(([n, x]) => [n, [...x]])"
            found = {
                name: np.asarray(values, dtype=float)
                for name, values in browser.model(f"arm {number}", columns)
            }
            np.testing.assert_allclose(found["wave"], wave, atol=1e-3)
            used = ivar[0] > 0
            expected = np.where(used, flux[0], np.nan)
            np.testing.assert_allclose(found["flux"], expected, rtol=5e-4, atol=1e-4)
            smooth = smooth_flux(flux[0].astype(float), ivar[0].astype(float), width)
            noise = np.where(used, ivar[0], np.inf) ** -0.5
            apart = np.abs(found["smooth"] - smooth)
            assert np.all(
                apart[used] < 0.01 * noise[used] + 1e-3 * np.abs(smooth[used])
            )
            band = (found["high"] - found["low"])[used] / 2
            np.testing.assert_allclose(band, noise[used], rtol=1e-3)


def test_lines_are_at_each_redshift_and_the_upper_axis_at_rest(
    browser: Browser, page: Path
) -> None:
    browser.open(page)
    z = float(classify(DEMO, rows=[0])["Z_QN"][0])
    for name, at in (("qn", z), ("fit", z + 0.01), ("mine", z)):
        waves = browser.model(f"lines {name}", "[...m.data.wave]")
        np.testing.assert_allclose(waves[0], 1215.67 * (1 + at), rtol=1e-4)
        assert len(waves) == 6
    for key in ("", "r"):
        start, end = browser.model("wave", "[m.start, m.end]")
        rest = browser.model("rest", "[m.start, m.end]")
        np.testing.assert_allclose(np.asarray([start, end]) / (1 + z), rest, rtol=1e-4)
        if not key:
            browser.drag(6000, 200)
            moved = browser.model("wave", "m.start")
            assert moved < start
            browser.type("r")


def test_layers_can_be_hidden(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert not browser.model("more", "m.visible")
    before = browser.model("names", "m.data.text.length")
    browser.type("m")
    assert browser.model("more", "m.visible")
    assert browser.model("names", "m.data.text.length") > before + 10
    for box in browser.driver.find_elements(By.CSS_SELECTOR, "#layers input"):
        if box.is_selected():
            box.click()
    hidden = ("pixels 0", "band 2", "sky", "flagged pixels", "qn", "fit", "more")
    assert not any(browser.model(name, "m.visible") for name in hidden)
    assert browser.model("smooth 0", "m.visible")


# Judging.


def test_keys_judge_and_what_they_say_outlives_a_visit(
    browser: Browser, page: Path
) -> None:
    browser.open(page)
    browser.type("q", "4", "n", "g", "2", Keys.ARROW_RIGHT, "s", "n", "u", "0")
    browser.type("p", "p", "p", Keys.ARROW_LEFT, "c")
    browser.type('a, b: #1 +"2"', Keys.ENTER, "n")
    browser.element("scanner").send_keys("EA", Keys.ESCAPE)
    expected = ["quasar 4", "galaxy 2", "star", "unsure 0", ""]
    assert [row[-1] for row in browser.rows()[:5]] == expected
    assert browser.text("progress") == "4 of 25 judged"
    browser.open(page, fresh=False)
    assert [row[-1] for row in browser.rows()[:5]] == expected
    assert browser.text("label") == f"TARGETID {FIRST + 4}"  # the first not judged
    assert browser.js("return document.getElementById('scanner').value") == "EA"
    browser.type("p", "p", "p", "p")
    comment = "return document.getElementById('comment').value"
    assert browser.js(comment) == 'a, b: #1 +"2"'
    browser.element("clear").click()
    assert browser.rows()[0][-1] == ""


def test_keys_in_a_field_judge_nothing(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.type("c", "questing", Keys.ESCAPE)
    browser.type("z", Keys.ESCAPE)
    assert browser.rows()[0][-1] == "✓"
    assert browser.text("label") == f"TARGETID {FIRST}"


def test_a_redshift_is_typed_or_nudged(browser: Browser, page: Path) -> None:
    browser.open(page)
    own = browser.redshift()
    browser.type("z", "2.345", Keys.ENTER)
    assert browser.redshift() == 2.345
    waves = browser.model("lines mine", "[...m.data.wave]")
    np.testing.assert_allclose(waves[0], 1215.67 * 3.345, rtol=1e-6)
    browser.type(".", ".", ",")
    assert browser.redshift() == 2.346
    browser.type("z", "12", Keys.ENTER)
    saved = records(browser.save())
    assert saved[0]["VI_z"] == "2.3460"
    browser.type("z", Keys.DELETE, Keys.ENTER)
    assert browser.redshift() == own
    assert browser.text("progress") == "0 of 25 judged"


@pytest.mark.parametrize("offset", [-6, 0, 6])
def test_a_redshift_is_dragged_at_its_lines(
    browser: Browser, page: Path, offset: int
) -> None:
    browser.open(page)
    rest = 2796.3511
    wave = rest * (1 + browser.redshift())
    start = browser.model("wave", "m.start")
    scale = browser.place(wave + 1)[0] - browser.place(wave)[0]
    browser.drag(wave, 60, offset)
    expected = (wave + 60 / scale) / rest - 1
    assert abs(browser.redshift() - expected) < 2 / scale / rest
    assert browser.model("wave", "m.start") == start
    browser.drag(wave, 60)  # where there is no line any more
    assert browser.model("wave", "m.start") < start


# The csv.


def test_the_csv_is_prospect_s_and_read_as_truth(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.element("scanner").send_keys("EA", Keys.ESCAPE)
    browser.type("q", "4", "n", "g", "3", "n", "n", "u", "1", "c", 'a,"b"')
    path = browser.save()
    assert path.name == "vi-demo.csv"
    rows = list(csv.reader(path.read_text("utf-8").splitlines()))
    table = classify(DEMO, rows=[0])
    unknown = ["-1"] * 6 + ["", "-1", "-1"]
    z = f"{table['Z_QN'][0]:.4f}"
    assert ",".join(rows[0]).startswith("TARGETID,EXPID,NIGHT,TILEID,Spec_version,Red")
    assert [len(row) for row in rows] == [16] * 4
    assert rows[1] == [str(FIRST), *unknown, "EA", "4", "", z, "QSO", ""]
    assert rows[2] == [str(FIRST + 1), *unknown, "EA", "3", "", "", "GALAXY", ""]
    assert rows[3] == [str(FIRST + 3), *unknown, "EA", "1", "", "", "", 'a,"b"']
    truth = open_truth(path)
    assert truth.kind.tolist() == [Kind.QUASAR, Kind.GALAXY, Kind.UNKNOWN]
    assert truth.sure.tolist() == [True, True, False]
    assert abs(truth.z[0] - table["Z_QN"][0]) < 1e-4
    assert match(classify(DEMO), truth)[:4].tolist() == [0, 1, -1, 2]


def test_a_csv_is_loaded_again(browser: Browser, page: Path, tmp_path: Path) -> None:
    browser.open(page)
    browser.element("scanner").send_keys("EA", Keys.ESCAPE)
    browser.type("q", "4", "n", "z", "1.5", Keys.ENTER, "g", "n", "u", "c", 'a, "b"')
    path = Path(shutil.copy(browser.save(), tmp_path / "mine.csv"))
    before = browser.rows()
    browser.open(page)
    assert browser.text("progress") == "0 of 25 judged"
    assert "mine.csv: 3 judgements loaded." in browser.load(path)
    assert browser.rows() == before
    again = browser.save()
    assert again.read_text() == path.read_text()


def test_judgements_are_replaced_by_a_csv_only_if_somebody_agrees(
    browser: Browser, page: Path, tmp_path: Path
) -> None:
    browser.open(page)
    browser.type("s", "1")
    path = tmp_path / "other.csv"
    names = "TARGETID,VI_QUALITY,VI_Z,VI_SPECTYPE"
    path.write_text(f"{names}\n{FIRST},4,2.0,QSO\n{FIRST + 1},3,,STAR\n5,4,,STAR\n")
    for agree, expected in ((False, ["star 1", ""]), (True, ["quasar 4", "star 3"])):
        browser.element("file").send_keys(str(path))
        alert = browser.wait(lambda: _alert(browser.driver))
        assert "1 judgements" in alert.text
        alert.accept() if agree else alert.dismiss()
        assert [row[-1] for row in browser.rows()[:2]] == expected
    assert browser.redshift() == 2
    assert "1 are of spectra that are not on this page" in browser.text("message")


def _alert(driver: Any) -> Any:
    """The question that the page asks, if it asks one."""
    try:
        return driver.switch_to.alert
    except Exception:
        return None


def test_what_is_no_csv_of_judgements_is_refused(
    browser: Browser, page: Path, tmp_path: Path
) -> None:
    browser.open(page)
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n")
    assert "other.csv: has no judgements" in browser.load(path)


def test_spectra_without_targetids_are_told_apart(
    browser: Browser, tmp_path: Path
) -> None:
    wave = np.arange(3600.0, 9800.0, 2.0)
    flux = np.random.default_rng(0).normal(size=(3, wave.size))
    page = inspect((wave, flux, np.ones_like(flux)), output=tmp_path / "arrays.html")
    browser.open(page)
    browser.type("q", "n", "n", "s", "2")
    path = Path(shutil.copy(browser.save(), tmp_path / "mine.csv"))
    rows = records(path)
    assert [(row["TARGETID"], row["ROW"]) for row in rows] == [("-1", "0"), ("-1", "2")]
    browser.open(page)
    browser.load(path)
    assert [row[-1] for row in browser.rows()] == ["quasar", "", "star 2"]


def test_spectra_of_sdss_are_read_as_truth(browser: Browser, tmp_path: Path) -> None:
    files = [
        write_spec(tmp_path / "a.fits", FIBERID=2),
        write_spec(tmp_path / "b.fits", FIBERID=3),
    ]
    page = inspect(files, output=tmp_path / "sdss.html")
    browser.open(page)
    browser.type("q", "4", "n", "s", "4")
    truth = open_truth(browser.save())
    assert truth.kind.tolist() == [Kind.QUASAR, Kind.STAR]


def test_80_spectra_of_boss_are_judged(
    browser: Browser, reference: Path, tmp_path: Path
) -> None:
    files = sorted(reference.glob("boss/spec-*.fits"))
    page = inspect(files, output=tmp_path / "boss.html")
    browser.open(page)
    assert len(browser.rows()) == 80
    for number in range(80):
        browser.type("q" if number % 2 else "s", "4", "n")
    path = browser.save()
    truth = open_truth(path)
    assert truth.n == 80
    known = [int(match(classify(file), truth)[0]) for file in files[1:4]]
    assert known == [1, 2, 3]
    assert truth.kind[:2].tolist() == [Kind.STAR, Kind.QUASAR]
    browser.open(page)
    assert "80 judgements loaded." in browser.load(path)
    assert browser.errors() == []


# The list, and small screens.


def test_the_list_is_sorted_and_its_order_is_that_of_the_keys(
    browser: Browser, page: Path
) -> None:
    browser.open(page)
    heads = browser.driver.find_elements(By.CSS_SELECTOR, "#columns button")
    heads[1].click()
    heads[1].click()
    confidences = [row[1] for row in browser.rows() if row[1] != NO_NUMBER]
    assert confidences == sorted(confidences, reverse=True)
    assert browser.rows()[-1][1] == NO_NUMBER
    heads[2].click()
    rows = browser.rows()
    known = [float(row[2]) for row in rows if row[2] != NO_NUMBER]
    assert known == sorted(known)
    browser.js("document.querySelectorAll('#rows tr')[3].click()")
    assert browser.text("label") == f"TARGETID {rows[3][0]}"
    browser.type("n")
    assert browser.text("label") == f"TARGETID {rows[4][0]}"
    browser.type(*"p" * 10)
    assert browser.text("label") == f"TARGETID {rows[0][0]}"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_phone_shows_it_without_scrolling_sideways(
    browser: Browser, page: Path, dark: bool
) -> None:
    browser.size(*PHONE, touch=True)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    features = {"features": [scheme]}
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", features)
    browser.open(page)
    assert browser.js("return document.documentElement.scrollWidth") <= PHONE[0]
    assert not browser.element("rows").is_displayed()
    paper = browser.model("spectrum", "m.background_fill_color")
    paper = json.dumps(paper)
    assert ("#15181d" in paper) == dark
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_a_finger_drags_a_line(browser: Browser, page: Path) -> None:
    browser.size(*PHONE, touch=True)
    browser.open(page)
    before = browser.redshift()
    x, y = browser.place(2796.3511 * (1 + before))
    touch = "Input.dispatchTouchEvent"
    for kind, step in (("Start", 0), *(("Move", n) for n in range(1, 6))):
        point = {"x": x + 10 * step, "y": y}
        settings = {"type": f"touch{kind}", "touchPoints": [point]}
        browser.driver.execute_cdp_cmd(touch, settings)
    browser.driver.execute_cdp_cmd(touch, {"type": "touchEnd", "touchPoints": []})
    browser.wait(lambda: browser.redshift() > before + 0.1)
