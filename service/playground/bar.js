// Shares as bars: a table that reads well without them.

import { element } from "./element.js";

/** Return a table; each row has a name, a bar as its cell, and further cells. */
export function table(caption, rows) {
  return element("table", { class: "bars" }, element("caption", {}, caption), element("tbody", {}, ...rows));
}

/** Return a row with a bar from the left; `share` is from 0 to 1. */
export function row(name, share, figure, { marked = false, remark = "" } = {}) {
  const bar = element("span", { class: "bar" });
  bar.style.setProperty("--share", share);
  return element(
    "tr",
    { class: marked ? "marked" : null },
    element("th", { scope: "row" }, name),
    element("td", { class: "track", "aria-hidden": "true" }, bar),
    element("td", { class: "figure" }, figure),
    element("td", { class: "remark" }, remark),
  );
}

/** Return a row with a bar from the middle, to the right for what is above zero. */
export function signedRow(name, share, figure) {
  const made = row(name, Math.abs(share) / 2, figure);
  made.querySelector(".bar").classList.add(share < 0 ? "below" : "above");
  return made;
}
