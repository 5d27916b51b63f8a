// Arrays of numbers: read as _pack.py packs them, and smoothed.

/** Undo base64 and deflate, and put the bytes of each number together. */
async function unpack(text, Numbers) {
  const packed = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const inflate = new DecompressionStream("deflate-raw");
  const stream = new Blob([packed]).stream().pipeThrough(inflate);
  const planes = new Uint8Array(await new Response(stream).arrayBuffer());
  const size = Numbers.BYTES_PER_ELEMENT;
  const count = planes.length / size;
  const bytes = new Uint8Array(planes.length);
  for (let byte = 0; byte < size; byte++) {
    for (let i = 0; i < count; i++) bytes[i * size + byte] = planes[byte * count + i];
  }
  return new Numbers(bytes.buffer);
}

/** Wavelengths in Angstrom: second differences in thousandths. */
async function unpackWave(text) {
  const differences = await unpack(text, Int32Array);
  const wave = new Float64Array(differences.length);
  let step = 0;
  let sum = 0;
  differences.forEach((difference, i) => {
    step += difference;
    sum += step;
    wave[i] = sum / 1000;
  });
  return wave;
}

/** Numbers of half precision times a power of two. */
function halves(bits, exponent) {
  return Float64Array.from(bits, (half) => fromHalf(half) * 2 ** exponent);
}

function fromHalf(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = (bits & 1023) / 1024;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  if (exponent === 0) return sign * fraction * 2 ** -14;
  return sign * (1 + fraction) * 2 ** (exponent - 15);
}

/** Wavelengths, flux and its standard deviation of each arm of a target. */
async function unpackArms(target, grids) {
  const values = await unpack(target.values, Uint16Array);
  let start = 0;
  const take = (size, exponent) => {
    start += size;
    return halves(values.subarray(start - size, start), exponent);
  };
  return Promise.all(
    target.arms.map(async ({ arm, grid, size, flux, sigma, flagged }) => ({
      arm,
      flagged,
      flux: take(size, flux),
      sigma: take(size, sigma),
      wave: await grids[grid](),
    })),
  );
}

/** A function that calls another once, and gives its answer ever after. */
function once(make) {
  let made = null;
  return () => (made ??= make());
}

/** Mean of neighbours, weighted by a Gaussian and by inverse variance. */
function smoothFlux(flux, sigma, width) {
  const reach = width > 0 ? Math.min(Math.ceil(4 * width), flux.length - 1) : 0;
  const kernel = Float64Array.from({ length: 2 * reach + 1 }, (_, i) =>
    Math.exp(-0.5 * ((i - reach) / (width || 1)) ** 2),
  );
  const weights = sigma.map((s) => (s > 0 ? s ** -2 : 0));
  return flux.map((_, i) => {
    let total = 0;
    let sum = 0;
    const last = Math.min(i + reach, flux.length - 1);
    for (let j = Math.max(i - reach, 0); j <= last; j++) {
      if (weights[j] === 0) continue;
      const weight = kernel[j - i + reach] * weights[j];
      total += weight;
      sum += weight * flux[j];
    }
    return total > 0 ? sum / total : NaN;
  });
}

/** First and last pixel of each run without weight. */
function lostRuns(sigma) {
  const runs = [];
  sigma.forEach((value, i) => {
    if (value > 0) return;
    if (runs.length && runs.at(-1)[1] === i - 1) runs.at(-1)[1] = i;
    else runs.push([i, i]);
  });
  return runs;
}
