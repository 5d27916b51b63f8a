// Buttons and fields with which a spectrum is judged.

const LOWEST = -0.1;
const HIGHEST = 9.9999;
const QUALITIES = ["no signal", "wrong", "unlikely", "likely", "certain"];

class Form {
  /** `onChange` is told what somebody changes, as parts of a judgement. */
  constructor(onChange) {
    this.onChange = onChange;
    this.kinds = Object.entries(KINDS).map(([kind, word]) =>
      this.addChoice("kinds", word, { kind }, `${word} (${word[0].toUpperCase()})`),
    );
    this.qualities = QUALITIES.map((word, quality) =>
      this.addChoice("qualities", String(quality), { quality }, `quality: ${word}`),
    );
    this.redshift = element("redshift");
    this.slider = element("slider");
    this.comment = element("comment");
    this.redshift.addEventListener("change", () => this.readRedshift());
    this.slider.addEventListener("input", () => onChange({ z: Number(this.slider.value) }));
    this.comment.addEventListener("input", () => onChange({ comment: this.comment.value }));
    element("judge").addEventListener("submit", (event) => event.preventDefault());
  }

  addChoice(place, text, change, title) {
    const button = document.createElement("button");
    Object.assign(button, { type: "button", textContent: text, title });
    button.addEventListener("click", () => this.onChange(change));
    element(place).append(button);
    return { button, change };
  }

  /** Take the redshift that somebody typed; an empty field is the network's. */
  readRedshift() {
    const text = this.redshift.value.trim().replace(",", ".");
    const z = Number(text);
    const usable = text === "" || (Number.isFinite(z) && z >= LOWEST && z <= HIGHEST);
    this.redshift.setCustomValidity(usable ? "" : `A redshift is a number from ${LOWEST} to ${HIGHEST}.`);
    if (usable) this.onChange({ z: text === "" ? null : z });
    else this.redshift.reportValidity();
  }

  /** Show a judgement, and the redshift that goes with it. */
  show(judgement, z) {
    for (const { button, change } of [...this.kinds, ...this.qualities]) {
      const [[name, value]] = Object.entries(change);
      button.ariaPressed = String(judgement[name] === value);
    }
    this.redshift.setCustomValidity("");
    this.redshift.value = z === null ? "" : z.toFixed(4);
    this.slider.value = z ?? 0;
    if (this.comment.value !== judgement.comment) this.comment.value = judgement.comment;
  }

  /** Offer the redshifts that are known of a target. */
  offer(redshifts) {
    const names = { qn: "Z_QN", fit: "Z_FIT", truth: "truth" };
    const known = Object.entries(redshifts).filter(([, z]) => z !== null);
    const buttons = known.map(([name, z]) => {
      const button = document.createElement("button");
      const title = `Put the lines at ${names[name]} = ${z.toFixed(4)}.`;
      Object.assign(button, { type: "button", textContent: names[name], title });
      button.addEventListener("click", () => this.onChange({ z: name === "qn" ? null : z }));
      return button;
    });
    element("presets").replaceChildren(...buttons);
  }
}
