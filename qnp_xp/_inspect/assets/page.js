// The page: what belongs together, and the keys.

function element(id) {
  return document.getElementById(id);
}

/** A text after a piece of line, where there is a colour. */
function legend(tag, text, colour, dashes = "solid") {
  const entry = document.createElement(tag);
  if (colour) {
    const swatch = document.createElement("i");
    swatch.className = "swatch";
    swatch.style.borderColor = colour;
    swatch.style.borderTopStyle = dashes;
    entry.append(swatch);
  }
  entry.append(text);
  return entry;
}

/** The nearest redshift that has room in a csv. */
function inRange(z) {
  return Math.min(Math.max(z, LOWEST), HIGHEST);
}

class Page {
  constructor(data) {
    this.data = data;
    this.index = 0;
    this.judgements = new Judgements(data);
    this.list = new List(
      data.targets,
      (index) => this.judgedWords(index),
      (index) => this.choose(index),
    );
    this.figure = new Figure(data, (z) => this.change({ z: inRange(z) }));
    this.form = new Form((changes) => this.change(changes));
    element("scanner").value = this.judgements.scanner;
    this.connect();
  }

  /** Make the figure and show the first spectrum that is not judged yet. */
  async start() {
    const { targets } = this.data;
    const open = targets.findIndex((_, index) => !this.judgements.isJudged(index));
    this.addLayers();
    await this.choose(Math.max(open, 0));
    await this.figure.draw();
    requestAnimationFrame(() => setTimeout(() => performance.mark("spectrum drawn")));
  }

  get target() {
    return this.data.targets[this.index];
  }

  /** Redshift that the lines are at: the one chosen, else the network's. */
  get z() {
    return this.judgements.rows[this.index].z ?? this.target.z.qn;
  }

  async choose(index) {
    this.index = index;
    this.list.choose(index);
    this.form.offer(this.target.z);
    this.showJudgement();
    this.showFacts();
    await this.figure.show(this.target, this.z);
  }

  step(steps) {
    this.choose(this.list.neighbour(this.index, steps));
  }

  change(changes) {
    this.judgements.change(this.index, changes);
    if ("z" in changes) this.figure.setRedshift(this.z);
    this.list.update(this.index);
    this.showJudgement();
  }

  showJudgement() {
    this.form.show(this.judgements.rows[this.index], this.z);
    const { count, kept } = this.judgements;
    const remark = kept ? "" : " (this browser keeps nothing: save before you close the page)";
    element("progress").textContent =
      `${count} of ${this.data.targets.length} judged${remark}`;
  }

  showFacts() {
    const { label, file, row, sky, z, confidence, truth } = this.target;
    element("label").textContent = label;
    const parts = [statusOf(this.target)];
    if (z.qn !== null) parts.push(`Z_QN ${z.qn.toFixed(4)}`, `confidence ${confidence.toFixed(3)}`);
    if (z.fit !== undefined && z.fit !== null) parts.push(`Z_FIT ${z.fit.toFixed(4)}`);
    if (truth) parts.push(`truth: ${truth}`);
    element("found").textContent = parts.join(" · ");
    const place = sky[0] === null ? "" : ` · RA ${sky[0].toFixed(5)}, Dec ${sky[1].toFixed(5)}`;
    element("origin").textContent = `${file}, row ${row}${place}`;
  }

  judgedWords(index) {
    if (!this.judgements.isJudged(index)) return "";
    const { kind, quality } = this.judgements.rows[index];
    return [KINDS[kind] ?? "", quality >= 0 ? quality : ""].join(" ").trim() || "✓";
  }

  /** Say what is drawn how, and let layers be hidden. */
  addLayers() {
    const arms = this.data.arms.map((name, number) =>
      legend("span", `arm ${name}`, this.figure.colour(`smooth ${number}`)),
    );
    const own = legend("span", "your redshift", this.figure.colour("mine"));
    const withFit = this.data.targets.some(({ z }) => "fit" in z);
    const names = Object.keys(LAYERS).filter((name) => name !== "Z_FIT" || withFit);
    const layers = names.map((name) => {
      const box = document.createElement("input");
      Object.assign(box, { type: "checkbox", checked: this.figure.isShown(name) });
      box.dataset.layer = name;
      box.addEventListener("change", () => this.figure.setLayer(name, box.checked));
      const label = legend("label", name, ...this.figure.dashes(name));
      label.prepend(box);
      return label;
    });
    element("layers").append(...arms, own, ...layers);
  }

  save() {
    const link = document.createElement("a");
    const blob = new Blob([this.judgements.toCsv()], { type: "text/csv" });
    link.href = URL.createObjectURL(blob);
    link.download = `vi-${this.data.title}.csv`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  /** Take the judgements of a csv; ask before others are replaced. */
  async load(file) {
    try {
      const { found, alien, scanner } = this.judgements.fromCsv(await file.text());
      const differ = [...found].filter(([index, said]) => this.replaces(index, said)).length;
      const question = `Replace ${differ} judgements of this page by those of ${file.name}?`;
      if (differ && !confirm(question)) return;
      this.setScanner(this.judgements.scanner || scanner);
      for (const [index, said] of found) {
        this.judgements.change(index, said);
        this.list.update(index);
      }
      const rest = alien ? `; ${alien} are of spectra that are not on this page` : "";
      this.say(`${file.name}: ${found.size} judgements loaded${rest}.`);
      this.figure.setRedshift(this.z);
      this.showJudgement();
    } catch (error) {
      this.say(`${file.name}: ${error.message}.`);
    }
  }

  /** Whether a judgement that is there is another than the one that is loaded. */
  replaces(index, said) {
    if (!this.judgements.isJudged(index)) return false;
    const now = { ...this.judgements.rows[index], z: this.judgements.redshift(index) };
    const then = { ...said, z: said.z === null ? "" : said.z.toFixed(4).slice(0, 6) };
    now.kind ??= "";
    return Object.keys(then).some((name) => now[name] !== then[name]);
  }

  setScanner(name) {
    this.judgements.scanner = name;
    element("scanner").value = name;
    this.judgements.keep();
  }

  say(text) {
    element("message").textContent = text;
    element("message").hidden = false;
    clearTimeout(this.silence);
    this.silence = setTimeout(() => (element("message").hidden = true), 8000);
  }

  setWidth() {
    const width = Number(element("smooth").value);
    element("width").textContent = `${width} pixels`;
    this.figure.setWidth(width);
  }

  toggleLayer(name) {
    document.querySelector(`input[data-layer="${name}"]`).click();
  }

  toggleHelp() {
    const keys = element("keys");
    keys.hidden = !keys.hidden;
    element("help").ariaExpanded = String(!keys.hidden);
  }

  nudge(step) {
    this.change({ z: inRange(Math.round(((this.z ?? 0) + step) * 1e4) / 1e4) });
  }

  connect() {
    const click = (id, act) => element(id).addEventListener("click", act);
    click("next", () => this.step(1));
    click("previous", () => this.step(-1));
    click("clear", () => this.change(UNJUDGED));
    click("save", () => this.save());
    click("load", () => element("file").click());
    click("help", () => this.toggleHelp());
    element("file").addEventListener("change", ({ target }) => {
      if (target.files[0]) this.load(target.files[0]);
      target.value = "";
    });
    element("scanner").addEventListener("input", ({ target }) => this.setScanner(target.value));
    element("smooth").addEventListener("input", () => this.setWidth());
    addEventListener("keydown", (event) => this.press(event));
    addEventListener("beforeunload", (event) => {
      if (!this.judgements.kept && this.judgements.count) event.preventDefault();
    });
  }

  press(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const field = event.target.matches('input:not([type="range"], [type="checkbox"])');
    if (field) {
      if (event.key === "Enter" || event.key === "Escape") event.target.blur();
      return;
    }
    if (event.target.matches('input[type="range"]') && event.key.startsWith("Arrow")) return;
    const act = this.keys()[event.key.toLowerCase()];
    if (!act) return;
    event.preventDefault();
    act();
  }

  keys() {
    const focus = (id) => () => {
      element(id).focus();
      element(id).select();
    };
    const kinds = { q: "QSO", g: "GALAXY", s: "STAR", u: "" };
    const judge = Object.entries(kinds).map(([key, kind]) => [key, () => this.change({ kind })]);
    const rate = QUALITIES.map((_, quality) => [String(quality), () => this.change({ quality })]);
    return {
      ...Object.fromEntries([...judge, ...rate]),
      n: () => this.step(1),
      arrowright: () => this.step(1),
      p: () => this.step(-1),
      arrowleft: () => this.step(-1),
      ",": () => this.nudge(-0.001),
      ".": () => this.nudge(0.001),
      z: focus("redshift"),
      c: focus("comment"),
      r: () => this.figure.reset(),
      m: () => this.toggleLayer("more lines"),
      "?": () => this.toggleHelp(),
    };
  }
}

new Page(JSON.parse(element("data").textContent)).start();
if (innerWidth < 800) element("list").open = false;
