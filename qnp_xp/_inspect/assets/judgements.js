// What somebody judged: kept in the browser, and saved as prospect saves it.

const COLUMNS = [
  ..."TARGETID EXPID NIGHT TILEID Spec_version Redrock_version".split(" "),
  ..."Template_version Redrock_spectype Redrock_z Redrock_deltachi2".split(" "),
  ..."VI_scanner VI_quality VI_issue VI_z VI_spectype VI_comment".split(" "),
];
const KINDS = { QSO: "quasar", GALAXY: "galaxy", STAR: "star", "": "unsure" };
// kind is null where nobody chose one, and "" where somebody is unsure.
const UNJUDGED = { kind: null, quality: -1, z: null, issue: "", comment: "" };

class Judgements {
  constructor(data) {
    this.data = data;
    this.place = `qnp-xp inspect ${data.key}`;
    this.scanner = "";
    this.kept = true;
    this.rows = data.targets.map(() => UNJUDGED);
    this.read();
  }

  isJudged(index) {
    const { kind, quality, z, comment } = this.rows[index];
    return kind !== null || quality >= 0 || z !== null || comment.trim() !== "";
  }

  get count() {
    return this.rows.filter((_, index) => this.isJudged(index)).length;
  }

  change(index, changes) {
    this.rows[index] = { ...this.rows[index], ...changes };
    this.keep();
  }

  /** Take what an earlier visit left. */
  read() {
    try {
      const kept = JSON.parse(localStorage.getItem(this.place) ?? "{}");
      this.scanner = kept.scanner ?? "";
      for (const [index, row] of Object.entries(kept.rows ?? {})) {
        if (this.rows[index]) this.rows[index] = { ...UNJUDGED, ...row };
      }
    } catch {
      this.kept = false;
    }
  }

  /** Leave all that was judged for the next visit. */
  keep() {
    const judged = Object.entries(this.rows).filter(([index]) => this.isJudged(index));
    const kept = { scanner: this.scanner, rows: Object.fromEntries(judged) };
    try {
      localStorage.setItem(this.place, JSON.stringify(kept));
      this.kept = true;
    } catch {
      this.kept = false;
    }
  }

  /** Redshift to save: the one chosen, or for a quasar the one shown. */
  redshift(index) {
    const { kind, z } = this.rows[index];
    const shown = z ?? (kind === "QSO" ? this.data.targets[index].z.qn : null);
    return shown === null ? "" : shown.toFixed(4).slice(0, 6);
  }

  toCsv() {
    const own = this.data.columns;
    const judged = this.data.targets.map((_, i) => i).filter((i) => this.isJudged(i));
    const rows = judged.map((index) => {
      const { kind, quality, issue, comment } = this.rows[index];
      const target = this.data.targets[index];
      const unknown = [-1, -1, -1, -1, -1, -1, "", -1, -1];
      const said = [quality, issue, this.redshift(index), kind ?? "", comment.trim()];
      const ids = own.map((name) => identifier(target, name));
      return [target.targetid, ...unknown, this.scanner, ...said, ...ids];
    });
    return formatCsv([...COLUMNS, ...own], rows);
  }

  /** Read what was saved: rows by target, which differ from now, and how many are alien. */
  fromCsv(text) {
    const rows = parseCsv(text);
    if (!rows.length || !("VI_QUALITY" in rows[0]) || !("TARGETID" in rows[0])) {
      throw new Error("has no judgements: TARGETID, VI_quality and more are needed");
    }
    const own = ["TARGETID", ...this.data.columns];
    const places = new Map();
    this.data.targets.forEach((target, index) => {
      places.set(own.map((name) => identifier(target, name)).join(), index);
    });
    const found = new Map();
    let alien = 0;
    for (const row of rows) {
      const index = places.get(own.map((name) => row[name] ?? "").join());
      if (index === undefined) alien += 1;
      else found.set(index, judgementOf(row));
    }
    return { found, alien, scanner: rows[0].VI_SCANNER ?? "" };
  }
}

/** Value of a column that tells targets apart. */
function identifier(target, name) {
  if (name === "TARGETID") return target.targetid;
  if (name === "FILE") return target.file;
  return name === "ROW" ? String(target.row) : (target.known[name] ?? "");
}

/** Judgement in a row of a csv. A blank class is an unsure one. */
function judgementOf(row) {
  const kind = (row.VI_SPECTYPE ?? "").trim().toUpperCase();
  const quality = Number.parseInt(row.VI_QUALITY, 10);
  const z = Number.parseFloat(row.VI_Z);
  return {
    kind: kind in KINDS ? kind : "",
    quality: quality >= 0 && quality <= 4 ? quality : -1,
    z: Number.isFinite(z) ? z : null,
    issue: (row.VI_ISSUE ?? "").trim(),
    comment: (row.VI_COMMENT ?? "").trim(),
  };
}
