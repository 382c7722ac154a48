// Words of a table, as the service compares them.

const MISSING = new Set(["na", "n/a", "nan", "null"]); // as the service has it

/** Return a cell of a column; empty where it holds a word for what is missing that the column does not list. */
export function present(cell, spec) {
  const listed = [...(spec?.categories ?? []), ...Object.keys(spec?.synonyms ?? {})];
  const word = folded(cell);
  return MISSING.has(word) && !listed.some((each) => folded(each) === word) ? "" : cell;
}

/** Return a word as words are compared: neither case, nor white space, nor which of two signs a micro is counts. */
export function folded(word) {
  return word.trim().replace(/\s+/g, " ").toUpperCase().toLowerCase();
}
