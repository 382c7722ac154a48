// The prediction, as each kind of label has it.

import { row, table } from "./bar.js";
import { drawn, element } from "./element.js";
import { percent, short } from "./number.js";

const KINDS = { binary, multiclass: classes, ordinal, regression };

/** Return what is shown of a prediction at a coverage in per cent. */
export function prediction(found, label, coverage) {
  return KINDS[label.kind](found, label, coverage);
}

/** Say a prediction in one line. */
export function inWords(found, label) {
  if (found.value !== undefined) return `${label.name} ${short(found.value, 4)} ${label.unit ?? ""}`.trim();
  if (found.expected !== undefined) return `expected ${label.name} ${short(found.expected)}`;
  if (found.probability !== undefined) return `${label.classes[1]} ${percent(found.probability)}`;
  return `${found.label} ${percent(found.probabilities[found.label])}`;
}

function binary(found, label, coverage) {
  return [headline(percent(found.probability), `probability of \u201c${label.classes[1]}\u201d`), ...distribution(found, label, coverage)];
}

function classes(found, label, coverage) {
  return [headline(found.label, `${howFound(found)}, ${percent(found.probabilities[found.label])} (of ${label.classes.length} classes)`), ...distribution(found, label, coverage)];
}

function ordinal(found, label, coverage) {
  return [headline(short(found.expected), `expected ${label.name}; ${howFound(found)} ${found.label}`), ...distribution(found, label, coverage)];
}

/** Say whether the predicted class is the most likely one, or predicted for the task's metric. */
function howFound(found) {
  return found.probabilities[found.label] < Math.max(...Object.values(found.probabilities)) ? "predicted" : "most likely";
}

function regression(found, label, coverage) {
  const shown = [headline(`${short(found.value, 4)} ${label.unit ?? ""}`.trim(), label.description || label.name)];
  if (!found.interval) return [...shown, lacking("interval", coverage)];
  const [low, high] = found.interval;
  const words = `${short(low, 4)} to ${short(high, 4)} ${label.unit ?? ""}`.trim();
  const text = element("p", { class: "set" }, `Interval at ${coverage}% coverage: `, element("strong", {}, words), ".");
  return [...shown, ruler(low, found.value, high, words), text];
}

function headline(figure, words) {
  return element("p", { class: "headline" }, element("span", { class: "figure" }, figure), " ", element("span", { class: "words" }, words));
}

function distribution(found, label, coverage) {
  const held = new Set(found.set ?? []);
  const rows = label.classes.map((name) => {
    const share = found.probabilities[name];
    return row(name, share, percent(share), { marked: held.has(name), remark: held.has(name) ? "in the set" : "" });
  });
  return [table("Probability of each class", rows), setOf(found.set, label, coverage)];
}

function setOf(set, label, coverage) {
  if (!set) return lacking("set", coverage);
  const meaning =
    set.length === 0
      ? "No class is likely enough: the case is unlike those that the model was calibrated on."
      : set.length === label.classes.length
        ? "It contains every class: at this coverage, the record does not settle the question."
        : set.length === 1
          ? "One class only."
          : "";
  const chips = set.length ? set.flatMap((each) => [" ", element("span", { class: "chip" }, each)]) : [" empty"];
  return element("p", { class: "set" }, `Set at ${coverage}% coverage:`, ...chips, ". ", meaning);
}

function lacking(what, coverage) {
  return element("p", { class: "set" }, `No ${what} at ${coverage}% coverage: the model was exported with too few held-out scores for that, or with none.`);
}

function ruler(low, value, high, words) {
  const x = 4 + (192 * (value - low)) / (high - low || 1);
  return drawn(
    "svg",
    { class: "ruler", viewBox: "0 0 200 16", role: "img", "aria-label": `interval ${words}` },
    drawn("path", { class: "line", d: "M4 8H196M4 3V13M196 3V13" }),
    drawn("circle", { class: "point", cx: x.toFixed(1), cy: 8, r: 4 }),
  );
}
