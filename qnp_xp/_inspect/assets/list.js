// The list of spectra, which can be sorted.

const LIST = [
  ["spectrum", (target) => target.label.replace("TARGETID ", "")],
  ["conf.", (target) => target.confidence?.toFixed(2) ?? "–"],
  ["Z_QN", (target) => target.z.qn?.toFixed(3) ?? "–"],
  ["status", (target) => statusOf(target)],
  ["judged", (_, said) => said],
];
// What the columns with numbers are sorted by.
const KEYS = { "conf.": (target) => target.confidence, Z_QN: (target) => target.z.qn };

/** What the network says a target is, with what hinders it. */
function statusOf(target) {
  if (!target.scored) return target.status;
  const remark = target.status.replace(/^scored ?/, "").replace(/^\((.*)\)$/, "$1");
  const kind = target.quasar ? "quasar" : "no quasar";
  return remark ? `${kind}, ${remark}` : kind;
}

class List {
  /** `onChoose` is told which target somebody clicked. */
  constructor(targets, judgedWords, onChoose) {
    this.targets = targets;
    this.judgedWords = judgedWords;
    this.order = targets.map((_, index) => index);
    this.rows = targets.map((_, index) => this.makeRow(index, onChoose));
    this.heads = LIST.map(([name], column) => this.makeHead(name, column));
    element("columns").append(...this.heads);
    element("rows").append(...this.rows);
  }

  makeRow(index, onChoose) {
    const row = document.createElement("tr");
    row.append(...LIST.map(() => document.createElement("td")));
    row.addEventListener("click", () => onChoose(index));
    this.fill(row, index);
    return row;
  }

  fill(row, index) {
    const said = this.judgedWords(index);
    LIST.forEach(([, text], column) => {
      const content = text(this.targets[index], said);
      Object.assign(row.cells[column], { textContent: content, title: content });
    });
  }

  /** A title that sorts by its column, and turns the order when it is used again. */
  makeHead(name, column) {
    const head = document.createElement("th");
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name;
    button.addEventListener("click", () => {
      const down = head.ariaSort === "ascending";
      for (const each of this.heads) each.ariaSort = null;
      head.ariaSort = down ? "descending" : "ascending";
      this.sort(column, down);
    });
    head.append(button);
    return head;
  }

  sort(column, down) {
    const [name, text] = LIST[column];
    const key = KEYS[name] ?? ((target, index) => text(target, this.judgedWords(index)));
    const keys = this.targets.map((target, index) => key(target, index));
    this.order.sort((a, b) => (down ? -1 : 1) * compare(keys[a], keys[b]) || a - b);
    element("rows").append(...this.order.map((index) => this.rows[index]));
  }

  /** The target some rows further down, in the order that is shown. */
  neighbour(index, steps) {
    const place = this.order.indexOf(index) + steps;
    return this.order[Math.min(Math.max(place, 0), this.order.length - 1)];
  }

  choose(index) {
    this.rows.forEach((row, each) => (row.ariaSelected = String(each === index)));
    const box = element("rows").closest(".scroll");
    const row = this.rows[index];
    const above = row.offsetTop < box.scrollTop + 30;
    const below = row.offsetTop + row.offsetHeight > box.scrollTop + box.clientHeight;
    if (above || below) box.scrollTop = row.offsetTop - box.clientHeight / 2;
  }

  update(index) {
    this.fill(this.rows[index], index);
  }
}

/** Order numbers or texts; what is unknown comes first. */
function compare(a, b) {
  if (typeof a === "string") return a.localeCompare(b, "en", { numeric: true });
  return (a ?? -Infinity) - (b ?? -Infinity) || 0;
}
