// Units of a field: which there are, and what a value is in the field's own.

import { withWords } from "./number.js";
import { folded } from "./word.js";

/** Return the names of a field's units, its own first. */
export function unitsOf(spec) {
  return [...new Set([spec.unit ?? "", ...Object.keys(spec.units ?? {})])];
}

/** Return the unit of a field that a word names, as the service compares them; undefined where there is none. */
function unitNamed(word, spec) {
  return unitsOf(spec).find((each) => folded(each) === folded(word));
}

/** Return text such as 101.3 degF as a value and its unit; nothing where the field has none so called. */
export function united(text, spec) {
  const found = withWords(text);
  return found && unitNamed(found.words, spec) ? { value: found.number, unit: found.words } : null;
}

/** Return a value as the service takes it: bare in the field's own unit, else with its unit. */
export function quantity(value, unit, spec) {
  return unit === undefined || unit === (spec.unit ?? "") ? value : { value, unit };
}

/** Return a number in the field's own unit, as the service will read it; NaN where it is none. */
export function inOwnUnit(value, spec) {
  let number = value;
  let unit = spec.unit ?? "";
  if (value !== null && typeof value === "object") ({ value: number, unit } = value);
  else if (spec.implied && spec.implied.low <= value && value <= spec.implied.high) {
    unit = spec.implied.unit;
  }
  const { scale = 1, offset = 0 } = spec.units?.[unitNamed(unit, spec)] ?? {};
  return typeof number === "number" ? number * scale + offset : NaN;
}
