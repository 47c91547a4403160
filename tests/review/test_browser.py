"""The report and the comparison in a real browser: hover, keys, filter, zoom, dark mode, a phone; and what they fetch."""

import base64
import json
import shutil

import numpy as np
import pytest
from test_report import EVIL, SETTINGS, make_run
from test_review import images_of

from eightfold.core.files import read_json, write_json, write_text
from eightfold.review import alike, compare, plots, report, review

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no Chromium with chromedriver here"),
]

HOSTILE = [
    "<script>window.pwned = 1</script>",
    '" onmouseover="window.pwned = 1" x=\'',
    "</textarea><b>&amp;",
    "犬 " * 30,
]
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
DESK = {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    quiet = "no-sandbox disable-gpu disable-quic no-first-run disable-background-networking disable-component-update disable-sync"
    for word in [
        "headless",
        *quiet.split(),
        "disable-dev-shm-usage",
        f"user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ]:
        options.add_argument(f"--{word}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def many_classes(root, count: int = 30, images: int = 240):
    """The files of a run of ``count`` classes, some of hostile names, with mistakes, a map and a confusion matrix."""
    files, random = make_run(root), np.random.default_rng(1)
    names = (HOSTILE + [f"class {number:03}" for number in range(count)])[:count]
    targets = random.integers(0, count, images)
    scores = random.random((images, count)) ** 8 + 2 * np.eye(count)[targets] * (random.random((images, 1)) > 0.2)
    chances = scores / scores.sum(1, keepdims=True)
    write_json(files["tables"][0], review.tables(images_of(chances, targets, names), "single", {}))
    write_json(files["manifest_identity"][0], {**read_json(files["manifest_identity"][0]), "classes": names})
    plots.confusion_plot(root / "confusion.svg", review.confusion(chances.argmax(1), targets, count), names)
    maps = alike.flat_maps(chances[:60] + random.normal(0, 0.01, (60, count)), 0)
    like = alike.nearest(chances[:60])
    points = [
        {
            "id": f"{number} {names[targets[number]]}",
            "truth": names[targets[number]],
            "said": names[int(chances[number].argmax())],
            "sure": 0.5,
            "colour": int(targets[number]),
            "right": number % 5 > 0,
            **{name: [float(x) for x in places[number]] for name, places in maps.items()},
            "like": like[number].tolist(),
        }
        for number in range(60)
    ]
    images = [np.full((20, 30, 3), 4 * number, np.uint8) for number in range(60)]
    sprite = base64.b64encode(alike.sprite(images)).decode()
    told = {"points": points, "thumbnail": alike.THUMBNAIL, "columns": alike.COLUMNS, "sprite": sprite}
    write_json(root / "map.json", told)
    return {**files, "map": [root / "map.json"]}


@pytest.fixture(scope="session")
def pages(tmp_path_factory):
    """Reports of 4 and of 30 classes, and a comparison of two runs: {name: path}."""
    root = tmp_path_factory.mktemp("pages")
    write_text(root / "few.html", report.render(report.gather(make_run(root / "few", folds=("0", "1")), SETTINGS)))
    write_text(root / "many.html", report.render(report.gather(many_classes(root / "many"), SETTINGS)))
    for name, config in (("one", {"seed": 1}), ("two", {"seed": 2, "note": HOSTILE[0]})):
        make_run(root / name)
        write_json(root / name / "config.json", {"config": config})
    write_text(root / "compare.html", compare.page([compare.read_run(root / name) for name in ("one", "two")]))
    return {name: root / f"{name}.html" for name in ("few", "many", "compare")}


@pytest.fixture
def opened(chromium, pages):
    """A function that opens a page as on a desk or a phone, in light or in dark."""

    def opened(name, screen=DESK, scheme="light"):
        scheme = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)
        chromium.get("about:blank")
        for kind in ("browser", "performance"):
            chromium.get_log(kind)  # what an earlier page told
        chromium.get(pages[name].as_uri())
        return chromium

    return opened


def find(browser, selector):
    return browser.find_element(By.CSS_SELECTOR, selector)


def scrolled_to(browser, selector):
    element = find(browser, selector)
    browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
    return element


@pytest.mark.parametrize("name", ["few", "many", "compare"])
def test_nothing_is_fetched_nothing_fails_and_no_name_runs(opened, pages, name):
    browser = opened(name)
    told = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [one["params"]["request"]["url"] for one in told if one["method"] == "Network.requestWillBeSent"]
    assert pages[name].as_uri() in asked
    assert all(url == pages[name].as_uri() or url.startswith("data:") for url in asked), [url[:80] for url in asked]
    assert browser.get_log("browser") == []
    assert browser.execute_script("return window.pwned") is None
    assert browser.execute_script("return document.scripts.length") == (0 if name == "compare" else 1)
    if name == "many":
        heads = browser.execute_script(
            "return [...document.querySelectorAll('#per-class tbody th')].map(one => one.textContent)"
        )
        assert set(HOSTILE) == set(heads) - {head for head in heads if head.startswith("class ")}


@pytest.mark.parametrize("name", ["few", "many", "compare"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read_in_light_and_in_dark(opened, name, scheme):
    """Contrast by WCAG 2: 4.5 at least, 3 for large letters; of the ink as blended with what lies below it."""
    browser = opened(name, scheme=scheme)
    browser.execute_script("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    page, faint = browser.execute_script(CONTRAST)
    assert (page < 0.2) == (scheme == "dark")
    assert not faint, faint[:5]


CONTRAST = """
const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
const rgba = (colour) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data].map((x) => x / 255); };
const over = (top, below, alpha) => top.slice(0, 3).map((x, i) => x * top[3] * alpha + below[i] * (1 - top[3] * alpha));
const light = (colour) => colour.map((x) => x <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4)
  .reduce((sum, x, i) => sum + x * [.2126, .7152, .0722][i], 0);
const ground = (element) => { // what lies below a text: the grounds of all that holds it, laid over the reader's page
  const dark = matchMedia('(prefers-color-scheme: dark)').matches;
  const chain = []; for (let e = element; e; e = e.parentElement) chain.unshift(getComputedStyle(e).backgroundColor);
  return chain.reduce((below, colour) => over(rgba(colour), below, 1), dark ? [.07, .07, .07] : [1, 1, 1]);
};
const faint = [];
for (const element of document.querySelectorAll('body *')) {
  const text = [...element.childNodes].filter((n) => n.nodeType === 3 && n.textContent.trim()).map((n) => n.textContent.trim()).join(' ');
  const box = element.getBoundingClientRect();
  if (!text || !box.width || !element.checkVisibility() || ['SCRIPT', 'STYLE'].includes(element.tagName)) continue;
  let alpha = 1; for (let e = element; e; e = e.parentElement) alpha *= Number(getComputedStyle(e).opacity);
  const style = getComputedStyle(element), below = ground(element), svg = element.namespaceURI.endsWith('svg');
  const ink = over(rgba(svg ? style.fill : style.color), below, alpha);
  const [a, b] = [light(ink), light(below)].sort((x, y) => y - x), ratio = (a + .05) / (b + .05);
  const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
  if (ratio < (large ? 3 : 4.5)) faint.push(`${ratio.toFixed(2)} ${element.tagName} ${text.slice(0, 40)}`);
}
return [light(ground(document.body)), faint];
"""


@pytest.mark.parametrize("name", ["few", "many", "compare"])
def test_a_phone_need_not_scroll_sideways(opened, name):
    browser = opened(name, PHONE)
    browser.execute_script("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    wide = "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    assert browser.execute_script(wide) == [390, 390]


@pytest.mark.parametrize("screen", [PHONE, DESK])
def test_a_long_name_takes_no_width_from_the_other(opened, screen):
    """Of a confused pair: both names have the same room, whichever is long."""
    browser = opened("many", screen)
    wide = "return [...document.querySelectorAll('#confusion thead th')].map(one => one.offsetWidth)"
    actual, predicted, images, share = browser.execute_script(wide)
    assert abs(actual - predicted) <= 1 and actual > images == share
    assert browser.execute_script(
        "const t = document.querySelector('#confusion table'); return t.scrollWidth <= t.parentElement.clientWidth"
    )


def test_every_image_has_a_text_in_its_place(opened):
    browser = opened("many")
    bare = "return [...document.querySelectorAll('img')].filter(one => !one.alt.trim() || !one.naturalWidth).length"
    assert browser.execute_script(bare) == 0
    nameless = "[role=img], [role=region], [role=group], input, canvas"
    script = "return [...document.querySelectorAll(arguments[0])].filter(one => !one.getAttribute('aria-label')).length"
    assert browser.execute_script(script, nameless) == 0


def test_the_tab_key_reaches_everything_in_order_and_shows_where_it_is(opened):
    browser = opened("many")
    reached, seen = (
        [],
        "return [document.activeElement, getComputedStyle(document.activeElement).outlineStyle, "
        "parseFloat(getComputedStyle(document.activeElement).outlineWidth)]",
    )
    wanted = browser.execute_script(
        "return [...document.querySelectorAll('a[href], button, input, summary, [tabindex=\"0\"]')].filter(one => one.checkVisibility())"
    )
    keys = ActionChains(browser, duration=0)
    for _ in wanted:
        keys.send_keys(Keys.TAB).perform()
        element, style, width = browser.execute_script(seen)
        reached.append(element)
        assert style != "none" and width >= 2, element.get_attribute("outerHTML")[:80]
        if len(reached) == 1:
            assert element.text == "Skip to the report" and element.rect["x"] >= 0
    assert reached == wanted


def test_a_filter_leaves_the_classes_that_match(opened):
    browser = opened("many")
    field = scrolled_to(browser, "input[type=search]")
    field.send_keys("CLASS 01")
    shown = "return [...document.querySelectorAll('#per-class tbody tr')].filter(one => one.checkVisibility()).map(one => one.cells[0].textContent)"
    assert browser.execute_script(shown) == [f"class {number:03}" for number in range(10, 20)]
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys("<script>")
    assert browser.execute_script(shown) == [HOSTILE[0]]


def test_a_heading_sorts_by_number_and_says_so(opened):
    browser = opened("many")
    head = scrolled_to(browser, "#per-class thead th:nth-child(5)")
    values = "return [...document.querySelectorAll('#per-class tbody tr')].map(one => one.cells[4].dataset.value).filter(Boolean).map(Number)"
    for ways, reverse in (("descending", True), ("ascending", False)):
        head.find_element(By.TAG_NAME, "button").click()
        found = browser.execute_script(values)
        assert head.get_attribute("aria-sort") == ways and found == sorted(found, reverse=reverse)


def test_a_small_confusion_matrix_grows(opened):
    browser = opened("few")
    image = scrolled_to(browser, "#confusion img")
    before = image.size["width"]
    find(browser, "[data-zoom] button[data-by='1.5']").send_keys(Keys.ENTER)
    assert image.size["width"] == pytest.approx(1.5 * before, abs=1)
    find(browser, "[data-zoom] button[data-by='0.667']").click()
    assert image.size["width"] == pytest.approx(before, abs=1)


def test_a_large_confusion_matrix_tells_each_cell(opened, pages):
    browser = opened("many")
    tables = read_json(pages["many"].parent / "many" / "tables.json")
    cells = {tuple(map(int, cell.split(","))) for cell in tables["cells"].split()}
    names = [row["class"] for row in tables["per_class"]]
    counts, canvas = {(i, j): n for i, j, n in cells}, scrolled_to(browser, "#matrix")
    told = lambda: find(browser, "#matrix-readout").text  # noqa: E731
    find(browser, "[data-order=name]").click()
    order = browser.execute_script(
        "return arguments[0].slice().sort((a, b) => a.localeCompare(b, undefined, {numeric: true}))", names
    )
    side = canvas.size["width"] / len(names)
    i, j = next((i, j) for i, j in counts if i != j and names[i].startswith("class") and names[j].startswith("class"))
    row, column = order.index(names[i]), order.index(names[j])
    at = ActionChains(browser, duration=0).move_to_element_with_offset
    middle = len(names) / 2
    at(canvas, round((column + 0.5 - middle) * side), round((row + 0.5 - middle) * side)).perform()
    images = sum(n for (actual, _), n in counts.items() if actual == i)
    assert told() == f"{names[i]}, predicted as {names[j]}: {counts[i, j]} of {images}"
    canvas.send_keys(Keys.ARROW_DOWN)
    below = names.index(order[row + 1])
    assert told().startswith(
        (f"{order[row + 1]}, predicted as {names[j]}: {counts.get((below, j), 0)} of", f"{names[j]}: ")
    )
    for _ in range(4):
        find(browser, "#matrix-tools [data-by='1.6']").click()
    assert canvas.size["width"] == 28 * len(names)
    sides = "return [...document.querySelectorAll('#matrix-sides span')].map(one => one.title)"
    assert browser.execute_script(sides) == order
    shown = [one.text for one in browser.find_elements(By.CSS_SELECTOR, "#matrix-sides span")]
    assert all(
        text == name.strip() or ("…" in text and len(text) <= 22 < len(name))
        for text, name in zip(shown, order, strict=True)
    )
    find(browser, "[data-order=alike]").click()
    alike = browser.execute_script(sides)
    pair = tables["confused"][0]
    assert sorted(alike) == sorted(names) and abs(alike.index(pair["actual"]) - alike.index(pair["predicted"])) == 1
    apart = [
        sum(n * abs(o.index(names[i]) - o.index(names[j])) for (i, j), n in counts.items()) for o in (alike, order)
    ]
    assert apart[0] < apart[1]
    find(browser, "[data-order=worst]").click()
    recall = {row["class"]: row["recall"] for row in tables["per_class"] if row["recall"] is not None}
    first = find(browser, "#matrix-sides span").get_attribute("title")
    assert recall[first] == min(recall.values())


def test_the_map_tells_its_images_to_mouse_and_keys(opened, pages):
    browser = opened("many")
    points = read_json(pages["many"].parent / "many" / "map.json")["points"]
    told = lambda: find(browser, "#map-card p").get_attribute("textContent")  # noqa: E731
    chart = scrolled_to(browser, "#map")
    ActionChains(browser, duration=0).move_to_element(
        browser.find_elements(By.CSS_SELECTOR, "#map circle")[59]
    ).perform()
    assert told().startswith(points[59]["id"]) and points[59]["truth"] in told()
    assert len(browser.find_elements(By.CSS_SELECTOR, "#map-card button canvas")) == len(points[59]["like"])
    chart.send_keys(Keys.ARROW_RIGHT)
    assert told().startswith(points[0]["id"])
    chart.send_keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert told().startswith(points[58]["id"])
    find(browser, "#map-card button").send_keys(Keys.ENTER)
    liked = points[58]["like"][0]
    assert told().startswith(points[liked]["id"])
    browser.switch_to.active_element.send_keys(Keys.ENTER)  # from alike to alike, without a mouse
    assert told().startswith(points[points[liked]["like"][0]]["id"])
    places = "return [...document.querySelectorAll('#map circle')].map(one => one.getAttribute('cx'))"
    before = browser.execute_script(places)
    find(browser, "button[data-map=pca]").click()
    assert browser.execute_script(places) != before
    assert find(browser, "button[data-map=pca]").get_attribute("aria-pressed") == "true"


def test_hundreds_of_classes_and_a_hundred_thousand_images_stay_small(tmp_path, opened, pages):
    files = many_classes(tmp_path, count=400, images=100_000)
    pages["huge"] = tmp_path / "huge.html"
    write_text(pages["huge"], report.render(report.gather(files, {**SETTINGS, "run": EVIL})))
    assert files["tables"][0].stat().st_size < 1_000_000 and pages["huge"].stat().st_size < 10_000_000
    browser = opened("huge", PHONE)
    assert browser.execute_script("return document.documentElement.scrollWidth") == 390
    find(browser, "#matrix").send_keys(Keys.ARROW_DOWN)
    assert " of " in find(browser, "#matrix-readout").text and browser.get_log("browser") == []
