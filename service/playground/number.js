// Numbers: as people read them, and as they type them.

const TYPED = /^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$/;
// Behind a space words may begin with a digit too: 80 1/min is how such a unit of a sample is shown.
const WITH_WORDS = /^([+-]?[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?(?![\d,.])|[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)(?:\s+|(?!\d))(\S.*)$/s;
const MINUS = "\u2212";

/** Return a number with as many digits as can be told apart at a glance. */
export function short(value, digits = 3) {
  const precise = value.toPrecision(digits); // rounded, which may put a digit more in front
  const text = Math.abs(Number(precise)) >= 10 ** digits ? value.toFixed(0) : precise;
  return (text.includes("e") ? text : String(Number(text))).replace("-", MINUS);
}

/** Return a number with its sign and two decimals. */
export function signed(value) {
  const text = Math.abs(value).toFixed(2);
  if (Number(text) === 0) return text;
  return (value < 0 ? MINUS : "+") + text;
}

/** Return a share as per cent; what is not quite none or all does not look so. */
export function percent(share) {
  const text = (100 * share).toFixed(1);
  if (text === "0.0" && share > 0) return "<0.1%";
  if (text === "100.0" && share < 1) return ">99.9%";
  return `${text}%`;
}

/** Return the number that a text is, or the text itself: whether it will do is the service's to say. */
export function typed(text) {
  const value = TYPED.test(text) ? Number(text) : NaN;
  return Number.isFinite(value) ? value : text;
}

/** Return the number that a text begins with, and the words behind it; nothing where it is no such text. */
export function withWords(text) {
  const [, before, words] = WITH_WORDS.exec(text) ?? [];
  const number = Number(before?.replaceAll(",", ""));
  return words && Number.isFinite(number) ? { number, words } : null;
}

/** Say which numbers a field takes. */
export function accepted(spec) {
  const said = [];
  if (spec.range) said.push(`${plain(spec.range[0])} to ${plain(spec.range[1])}`);
  if (spec.unit) said.push(spec.unit);
  return said.join(" ");
}

/** Say which numbers are taken for the nearest one in range; nothing where none are. */
export function clipped(spec) {
  if (!spec.limits || !spec.range || String(spec.limits) === String(spec.range)) return "";
  return `(values beyond it, from ${plain(spec.limits[0])} to ${plain(spec.limits[1])}, are clipped)`;
}

function plain(value) {
  return String(value).replace("-", MINUS);
}
