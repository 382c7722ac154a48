// Contribution of each modality: from the prediction of nothing to that of all.

import { signedRow, table } from "./bar.js";
import { element } from "./element.js";
import { short, signed } from "./number.js";
import { titleOf } from "./record.js";

/** Return what is shown of the parts used and missing; `given` names those that were sent. */
export function contributions(modalities, found, label, given) {
  const shown = [element("h3", {}, "Contribution of each modality")];
  if (modalities.contributions) {
    const parts = Object.entries(modalities.contributions);
    const largest = Math.max(...parts.map(([, value]) => Math.abs(value)), 1e-9);
    const rows = parts.map(([name, value]) => signedRow(titleOf(name), value / largest, signed(value)));
    const together = parts.reduce((sum, [, value]) => sum + value, modalities.baseline);
    shown.push(
      table(`In ${scale(found, label)}`, rows),
      element("p", { class: "hint" }, `With no modality: ${sum(modalities.baseline, label)}; with these: ${sum(together, label)}. Exact Shapley values, which add up to the difference.`),
    );
  }
  const listed = (words, parts) => (parts.length ? [element("p", { class: "missing" }, `${words}: ${parts.map(titleOf).join(", ")}.`)] : []);
  const sent = modalities.missing.filter((each) => given.includes(each));
  const lines = [
    ...listed("Not given", modalities.missing.filter((each) => !given.includes(each))),
    ...listed("Given, but nothing in it could be used", sent),
  ];
  return [...shown, ...(lines.length ? lines : [element("p", { class: "missing" }, "No modality is missing.")])];
}

/** Log-odds have a sign; stars and the like are what they are. */
function sum(value, label) {
  return label.kind === "ordinal" || label.kind === "regression" ? short(value) : signed(value);
}

function scale(found, label) {
  if (label.kind === "regression") return label.unit || label.name;
  if (label.kind === "ordinal") return `${label.name.replaceAll("_", " ")}: right means higher`;
  const towards = label.kind === "binary" ? label.classes[1] : found.label;
  return `log-odds: right means towards \u201c${towards}\u201d`;
}
