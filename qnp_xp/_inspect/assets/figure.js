// The figure: fills the models that _figure.py made, and moves lines.

const COLOURS = {
  light: { paper: "#ffffff", ink: "#24292f", grid: "#e4e7eb", pixels: "#8c959f" },
  dark: { paper: "#15181d", ink: "#d7dce2", grid: "#2b3139", pixels: "#79828d" },
};
// Layers that can be hidden, by their names in the page and the models they consist of.
const LAYERS = {
  pixels: /^pixels \d+$/,
  noise: /^band \d+$/,
  "sky and masked pixels": /^(sky|lost pixels|flagged pixels)$/,
  Z_QN: /^qn$/,
  Z_FIT: /^fit$/,
  "more lines": /^more$/,
};

const HANDLE = 16; // pixels

class Figure {
  /** `onRedshift` is told where somebody drags a line. */
  constructor(data, onRedshift) {
    this.data = data;
    // Not embed_item, which draws at once, when there is nothing in the figure yet.
    this.document = Bokeh.require("document").Document.from_json(data.figure.doc);
    this.grids = data.grids.map((text) => once(() => unpackWave(text)));
    this.width = 5;
    this.innerWidth = 800; // pixels; the real one is known once it is drawn
    this.followRange();
    this.followDrags(onRedshift);
    this.setLayer("more lines", false);
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    scheme.addEventListener("change", () => this.paint(scheme.matches));
    this.paint(scheme.matches);
  }

  /** Put the figure into the page, best after all is in it that is to be drawn first. */
  async draw() {
    await Bokeh.embed.add_document_standalone(this.document, element("figure"));
  }

  model(name) {
    return this.document.get_model_by_name(name);
  }

  /** Show a target, unless another is asked for while its numbers are unpacked. */
  async show(target, z) {
    this.target = target;
    const arms = await unpackArms(target, this.grids);
    if (this.target !== target) return;
    this.arms = arms;
    this.drawArms();
    this.markPixels();
    this.drawBoxes();
    for (const name of ["qn", "fit"]) {
      const wave = this.waves(target.z[name] ?? null, this.data.own);
      this.model(`lines ${name}`).data = { wave };
    }
    this.setRedshift(z);
    this.reset();
  }

  /** Wavelengths of lines at a redshift. */
  waves(z, lines) {
    return z === null ? [] : lines.map(([, rest]) => rest * (1 + z));
  }

  drawArms() {
    const none = { wave: [], flux: [], smooth: [], low: [], high: [] };
    this.data.arms.forEach((_, number) => {
      const arm = this.arms.find((each) => each.arm === number);
      this.model(`arm ${number}`).data = arm ? this.columns(arm) : none;
    });
  }

  /** Mark pixels without weight, and those with weight whose MASK is set. */
  markPixels() {
    const pairs = { lost: [], flagged: [] };
    for (const { wave, sigma, flagged } of this.arms) {
      const ends = ([first, last]) => [wave[first], wave[last]];
      pairs.lost.push(...lostRuns(sigma).map(ends));
      pairs.flagged.push(...flagged.map(ends));
    }
    for (const [name, runs] of Object.entries(pairs)) {
      const [left, right] = [0, 1].map((end) => runs.map((run) => run[end]));
      this.model(name).data = { left, right };
    }
  }

  /** What is drawn of an arm. */
  columns({ wave, flux, sigma }) {
    const smooth = smoothFlux(flux, sigma, this.width);
    const low = smooth.map((value, i) => value - sigma[i]);
    const high = smooth.map((value, i) => value + sigma[i]);
    return { wave, flux, smooth, low, high };
  }

  drawBoxes() {
    const { lines, boxes } = this.target;
    const source = this.model("boxes");
    const activation = boxes.flat().map((value) => value ?? 0);
    source.data = { ...source.data, activation };
    const rows = lines.map((_, row) => row).filter((row) => lines[row][1] !== null);
    this.model("found").data = {
      wave: rows.map((row) => lines[row][1]),
      row: rows.map((row) => row + 0.5),
    };
    const labels = lines.map(([confidence], row) => [
      row + 0.5,
      `${this.data.lines[row]} ${confidence === null ? "–" : confidence.toFixed(2)}`,
    ]);
    this.model("confidences").major_label_overrides = new Map(labels);
  }

  setWidth(width) {
    this.width = width;
    if (this.arms) this.drawArms();
  }

  /** Put the user's lines at a redshift, or away where there is none. */
  setRedshift(z) {
    this.z = z;
    const own = this.waves(z, this.data.own);
    const more = this.waves(z, this.data.more);
    this.model("lines mine").data = { wave: own };
    this.model("lines more").data = { wave: more };
    this.nameLines(own, this.isShown("more lines") ? more : []);
    this.followWave();
  }

  /** Put what is dragged about the user's lines, as broad in any zoom. */
  moveHandles() {
    const half = HANDLE / 2 / this.pixelsPerAngstrom;
    const waves = this.waves(this.z, this.data.own);
    this.moving = true;
    this.data.own.forEach((_, number) => {
      const handle = this.model(`handle ${number}`);
      handle.visible = number in waves;
      if (handle.visible) handle.setv({ left: waves[number] - half, right: waves[number] + half });
    });
    this.moving = false;
  }

  get pixelsPerAngstrom() {
    const { start, end } = this.model("wave");
    return this.innerWidth / (end - start);
  }

  nameLines(waves, moreWaves) {
    const names = [...this.data.own, ...this.data.more].map(([name]) => name);
    const wave = [...waves, ...moreWaves];
    this.model("names").data = { wave, text: names.slice(0, wave.length) };
  }

  /** Tell of the redshift when the user drags one of the lines. */
  followDrags(onRedshift) {
    this.data.own.forEach(([, rest], number) => {
      const handle = this.model(`handle ${number}`);
      handle.properties.left.change.connect(() => {
        const wave = (handle.left + handle.right) / 2;
        if (!this.moving) onRedshift(wave / rest - 1);
      });
    });
  }

  /** Keep the upper axis at rest wavelengths, and the handles as broad as they are. */
  followRange() {
    const { inner_width } = this.model("spectrum").properties;
    inner_width.change.connect(() => {
      this.innerWidth = this.model("spectrum").inner_width;
      this.moveHandles();
    });
    const wave = this.model("wave");
    for (const name of ["start", "end"]) {
      wave.properties[name].change.connect(() => this.followWave());
    }
  }

  followWave() {
    const { start, end } = this.model("wave");
    const stretch = 1 + (this.z ?? 0);
    this.model("rest").setv({ start: start / stretch, end: end / stretch });
    this.moveHandles();
  }

  /** Show the whole spectrum. */
  reset() {
    const waves = this.arms.filter(({ wave }) => wave.length).map(({ wave }) => wave);
    const first = Math.min(...waves.map((wave) => wave[0]));
    const last = Math.max(...waves.map((wave) => wave.at(-1)));
    const margin = 0.01 * (last - first);
    const [low, high] = this.target.range;
    const room = [low - 0.08 * (high - low), high + 0.3 * (high - low)];
    this.setRange("wave", first - margin, last + margin);
    this.setRange("flux", ...room);
  }

  setRange(name, start, end) {
    this.model(name).setv({ start, end, reset_start: start, reset_end: end });
  }

  isShown(layer) {
    return this.layerModels(layer).some((model) => model.visible);
  }

  setLayer(layer, visible) {
    for (const model of this.layerModels(layer)) model.visible = visible;
    if (this.target) this.setRedshift(this.z);
  }

  layerModels(layer) {
    const { renderers } = this.model("spectrum");
    return renderers.filter(({ name }) => LAYERS[layer].test(name));
  }

  /** Colour of the lines of a model. */
  colour(name) {
    return this.model(name).glyph.line_color.value;
  }

  /** Colour and dashes of a layer, where it consists of lines of its own. */
  dashes(layer) {
    const dashes = { Z_QN: "dashed", Z_FIT: "dotted" }[layer];
    return dashes ? [this.colour(layer === "Z_QN" ? "qn" : "fit"), dashes] : [];
  }

  /** Use colours of the light or the dark scheme. */
  paint(dark) {
    const { paper, ink, grid, pixels } = COLOURS[dark ? "dark" : "light"];
    for (const name of ["spectrum", "strip"]) {
      const panel = this.model(name);
      panel.setv({
        background_fill_color: paper,
        border_fill_color: paper,
        outline_line_color: grid,
      });
      for (const axis of [...panel.above, ...panel.below, ...panel.left]) {
        if (axis.major_label_text_color === undefined) continue;
        axis.setv({
          axis_line_color: ink,
          axis_label_text_color: ink,
          major_label_text_color: ink,
          major_tick_line_color: ink,
          minor_tick_line_color: grid,
        });
      }
      for (const each of panel.center) {
        if (each.grid_line_color !== undefined) each.grid_line_color = grid;
      }
    }
    for (const { glyph } of this.layerModels("pixels")) glyph.line_color = pixels;
  }
}
