// Tables with commas between their values.

/** Read a text with a line of names: an object for each further line. */
function parseCsv(text) {
  const rows = [[""]];
  let quoted = false;
  const append = (c) => (rows.at(-1)[rows.at(-1).length - 1] += c);
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (quoted && c === '"' && text[i + 1] === '"') append(text[i++]);
    else if (c === '"') quoted = !quoted;
    else if (!quoted && c === ",") rows.at(-1).push("");
    else if (!quoted && c === "\n") rows.push([""]);
    else if (quoted || c !== "\r") append(c);
  }
  const [names, ...others] = rows.filter((row) => row.length > 1 || row[0] !== "");
  const upper = (names ?? []).map((name) => name.trim().toUpperCase());
  return others.map((row) => Object.fromEntries(upper.map((n, i) => [n, row[i] ?? ""])));
}

/** Write names and rows of values. */
function formatCsv(names, rows) {
  const quote = (value) => {
    const text = String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [names, ...rows].map((row) => `${row.map(quote).join(",")}\n`).join("");
}
