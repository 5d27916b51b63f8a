// The figure: fills the models that _figure.py made, and moves lines.

const COLOURS = {
  light: { paper: "#ffffff", ink: "#24292f", grid: "#e4e7eb", pixels: "#8c959f" },
  dark: { paper: "#15181d", ink: "#d7dce2", grid: "#2b3139", pixels: "#79828d" },
};
// Layers that can be hidden, by their names in the page and the models they consist of.
const LAYERS = {
  pixels: /^pixels \d+$/,
  noise: /^band \d+$/,
  "sky, lost pixels": /^(sky|lost pixels)$/,
  Z_QN: /^qn$/,
  Z_FIT: /^fit$/,
  "more lines": /^more lines$/,
};

class Figure {
  /** Put the figure into the page. `onRedshift` is told of lines that are dragged. */
  static async make(data, onRedshift) {
    const figure = new Figure();
    const views = await Bokeh.embed.embed_item(data.figure);
    figure.document = Bokeh.documents.at(-1);
    figure.data = data;
    figure.width = 5;
    figure.grids = data.grids.map((text) => once(() => unpackWave(text)));
    figure.views = views;
    figure.followRange();
    figure.followDrags(onRedshift);
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    scheme.addEventListener("change", () => figure.paint(scheme.matches));
    figure.paint(scheme.matches);
    figure.setLayer("more lines", false);
    return figure;
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
    this.drawBoxes();
    for (const [name, value] of Object.entries(target.z)) {
      this.model(`lines ${name}`).data = { wave: this.waves(value) };
    }
    this.setRedshift(z);
    this.reset();
  }

  /** Wavelengths of the network's lines at a redshift. */
  waves(z) {
    return z === null ? [] : this.data.own.map(([, rest]) => rest * (1 + z));
  }

  drawArms() {
    const lost = { left: [], right: [] };
    const none = { wave: [], flux: [], smooth: [], low: [], high: [] };
    this.data.arms.forEach((_, number) => {
      const arm = this.arms.find((each) => each.arm === number);
      this.model(`arm ${number}`).data = arm ? this.columns(arm) : none;
    });
    for (const { wave, sigma } of this.arms) {
      const runs = lostRuns(wave, sigma);
      lost.left.push(...runs.left);
      lost.right.push(...runs.right);
    }
    this.model("lost").data = lost;
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
    const waves = this.waves(z);
    this.moving = true;
    this.data.own.forEach((_, number) => {
      const line = this.model(`mine ${number}`);
      line.visible = z !== null;
      if (z !== null) line.location = waves[number];
    });
    this.moving = false;
    const more = z === null ? [] : this.data.more;
    const moreWaves = more.map(([, rest]) => rest * (1 + z));
    this.model("more").data = { wave: moreWaves };
    const [names, places] = [this.data.own.map(([name]) => name), waves];
    const withMore = this.model("more lines").visible;
    this.model("names").data = {
      wave: withMore ? [...places, ...moreWaves] : places,
      text: (withMore ? [...names, ...more.map(([name]) => name)] : names).slice(
        0,
        withMore ? undefined : places.length,
      ),
    };
    this.followWave();
  }

  /** Tell of the redshift when the user drags one of the lines. */
  followDrags(onRedshift) {
    this.data.own.forEach(([, rest], number) => {
      const line = this.model(`mine ${number}`);
      line.properties.location.change.connect(() => {
        if (!this.moving) onRedshift(line.location / rest - 1);
      });
    });
  }

  /** Keep the upper axis at rest wavelengths. */
  followRange() {
    const wave = this.model("wave");
    for (const name of ["start", "end"]) {
      wave.properties[name].change.connect(() => this.followWave());
    }
  }

  followWave() {
    const { start, end } = this.model("wave");
    const stretch = 1 + (this.z ?? 0);
    this.model("rest").setv({ start: start / stretch, end: end / stretch });
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
