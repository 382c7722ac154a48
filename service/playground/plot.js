// Small plots of a series, one a variable, all over the same hours.

import { drawn, element } from "./element.js";
import { short } from "./number.js";
import { inOwnUnit } from "./unit.js";

const WIDTH = 200;
const HEIGHT = 48;
const EDGE = 4;
const MOST_POINTS = 100; // more than so many are a line alone
const STILL = 0.1; // the least share of its size that a plot spans

/** Return a plot of each variable that has a number to show, in its own unit. */
export function plots(spec, columns, rows, dropped) {
  return columns.filter((name) => spec.variables[name]).map((name) => plot(spec, name, pointsOf(spec, name, rows, dropped))).filter(Boolean);
}

function pointsOf(spec, name, rows, dropped) {
  const variable = spec.variables[name];
  const [low, high] = variable.limits ?? variable.range ?? [-Infinity, Infinity];
  const points = rows.map((row, i) => {
    const value = variable.kind === "number" ? inOwnUnit(row[name], variable) : Number(row[name] ?? NaN);
    return { hours: row.hours, value, out: dropped.has(`${i} ${name}`) || value < low || value > high };
  });
  const placed = points.filter((each) => Number.isFinite(each.value) && each.hours >= 0 && each.hours <= spec.horizon_hours);
  return placed.sort((a, b) => a.hours - b.hours);
}

function plot(spec, name, points) {
  const kept = points.filter((each) => !each.out);
  if (!points.length) return null;
  const values = kept.map((each) => each.value);
  const least = values.reduce((a, b) => Math.min(a, b), Infinity);
  const most = values.reduce((a, b) => Math.max(a, b), -Infinity);
  // What hardly moves shall look so.
  const span = Math.max(most - least, STILL * Math.max(Math.abs(most), Math.abs(least))) || 1;
  const middle = (most + least) / 2;
  const x = (hours) => EDGE + ((WIDTH - 2 * EDGE) * hours) / spec.horizon_hours;
  const y = (value) => HEIGHT / 2 - ((HEIGHT - 2 * EDGE) * (value - middle)) / span;
  const unit = spec.variables[name].unit ?? "";
  const range = kept.length ? `${short(least)} to ${short(most)} ${unit}`.trim() : "nothing in range";
  const out = points.length - kept.length;
  const said = `${name}: ${kept.length} values, ${range}${out ? `, ${out} out of range` : ""}`;
  return element(
    "figure",
    {},
    element("figcaption", {}, element("span", { class: "name" }, name), element("span", { class: "hint" }, range)),
    drawn(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": said },
      drawn("path", { class: "axis", d: `M${EDGE} ${HEIGHT - 0.5}H${WIDTH - EDGE}` }),
      drawn("path", { class: "line", d: kept.map((each, i) => `${i ? "L" : "M"}${x(each.hours).toFixed(1)} ${y(each.value).toFixed(1)}`).join("") }),
      ...(kept.length > MOST_POINTS ? [] : kept).map((each) => drawn("circle", { class: "point", cx: x(each.hours).toFixed(1), cy: y(each.value).toFixed(1), r: 2 })),
      ...points.filter((each) => each.out).map((each) => drawn("path", { class: "out", d: `M${(x(each.hours) - 3).toFixed(1)} 2l6 6m0-6l-6 6` })),
    ),
  );
}
