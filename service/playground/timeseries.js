// The series of a case: a table of measurements, edited, pasted or opened, and its plot.

import { copied, parse } from "./csv.js";
import { button, element, freshId } from "./element.js";
import { unitChoice } from "./field.js";
import { Files } from "./file.js";
import { messages, Place } from "./message.js";
import { accepted, typed } from "./number.js";
import { plots } from "./plot.js";
import { quantity, united, unitsOf } from "./unit.js";
import { present } from "./word.js";

export const title = "Time series";

const HOURS = "hours";
const MOST_SHOWN = 200; // rows as inputs; more would make the page slow
const MOST_OFFERED = 5; // columns of an empty table

/** The part as the page has it; see `record.js` for what every part can do. */
export class Part {
  constructor(spec, changed) {
    this.spec = spec;
    this.changed = changed;
    this.units = new Map(); // the choice of unit of each column that has several
    this.under = new Map(); // by control: its place, under its row
    this.table = element("table", { class: "series" });
    this.more = element("p", { class: "hint" });
    this.plot = element("div", { class: "plots" });
    this.added = new WeakSet(); // rows that were added by hand, which are shown however many there are
    this.dropped = new Set(); // cells that the service dropped, for the plot
    this.adder = element("select", { "aria-label": "Add a variable", onchange: () => this.addColumn(this.adder.value) });
    const id = freshId("series");
    this.whole = new Place(
      element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Measurements", "aria-describedby": `${id}-messages` }, this.table),
      messages(id),
    );
    this.files = new Files(read, (_, text) => this.take(text), this.whole);
    this.element = element(
      "div",
      {},
      this.plot,
      this.whole.control,
      this.more,
      this.whole.list,
      element("div", { class: "choices" }, button("Add a row", () => this.addRow(), { class: "quiet" }), this.adder),
      this.paster(id),
    );
    this.table.addEventListener("paste", (event) => this.pasted(event));
    this.element.addEventListener("drop", (event) => this.open(event.dataTransfer.files));
    this.fill(undefined);
  }

  read() {
    this.sent = this.rows.filter((row) => [...row.values()].some((text) => text.trim()));
    const rows = this.sent.map((row) => this.measurements(row));
    return rows.length ? rows : undefined;
  }

  fill(value) {
    this.files.forget();
    const names = new Set((value ?? []).flatMap((row) => Object.keys(row)));
    names.delete(HOURS);
    const found = names.size ? [...names] : offered(this.spec.variables);
    const rows = (value ?? [{}]).map((row) => new Map(Object.entries(row).map(([name, each]) => [name, shown(each)])));
    this.set(found, rows);
  }

  places() {
    return [this.whole, ...this.under.values()];
  }

  place(rest) {
    const [, index, name] = /^\[(\d+)\](?:\.(.*))?$/s.exec(rest) ?? [];
    const row = index === undefined ? undefined : this.sent?.[Number(index)];
    if (!row) return this.whole;
    const fitting = this.columns.filter((each) => `${name}.`.startsWith(`${each}.`));
    const column = fitting.sort((a, b) => b.length - a.length)[0] ?? HOURS;
    const control = this.controls.get(row)?.get(column);
    if (!control) return this.whole;
    if (!this.under.has(control)) this.under.set(control, new CellPlace(column, control));
    return this.under.get(control);
  }

  /** Say what was dropped, so that the plot shows it. */
  note(rest, issue) {
    const [, index, name] = /^\[(\d+)\]\.(.*)$/s.exec(rest) ?? [];
    if (issue.action !== "dropped" || index === undefined) return;
    this.dropped.add(`${this.rows.indexOf(this.sent[Number(index)])} ${name}`);
    this.redraw();
  }

  // ---- the table ----

  set(columns, rows) {
    this.columns = columns;
    this.rows = rows.length ? rows : [new Map()];
    this.units.clear();
    this.render();
  }

  render() {
    this.under.clear();
    this.dropped.clear();
    this.whole.clear();
    this.controls = new Map();
    const body = element("tbody");
    this.rows.forEach((row, i) => {
      if (i < MOST_SHOWN || this.added.has(row)) body.append(this.line(row, i));
    });
    this.table.replaceChildren(this.head(), body);
    const hidden = this.rows.length - this.controls.size;
    this.more.textContent = hidden > 0 ? `${hidden} more rows are not shown, but they are sent too.` : "";
    const left = Object.keys(this.spec.variables).filter((each) => !this.columns.includes(each));
    this.adder.replaceChildren(
      element("option", { value: "" }, "Add a variable\u2026"),
      ...left.map((each) => element("option", { value: each, title: this.spec.variables[each].description }, each)),
    );
    this.adder.hidden = !left.length;
    this.draw();
  }

  head() {
    const row = element("tr", {}, element("th", { scope: "col" }, HOURS, element("span", { class: "hint" }, `0 to ${this.spec.horizon_hours}`)));
    for (const name of this.columns) {
      const spec = this.spec.variables[name];
      const remove = button("\u00d7", () => this.removeColumn(name), { class: "quiet remove", "aria-label": `Remove ${name}` });
      row.append(element("th", { scope: "col", title: spec?.description }, element("span", { class: "head" }, name, remove), this.unitOf(name, spec), this.rangeOf(spec)));
    }
    row.append(element("th", {}, element("span", { class: "visually-hidden" }, "Remove")));
    return element("thead", {}, row);
  }

  unitOf(name, spec) {
    if (spec?.kind !== "number" || unitsOf(spec).length < 2) return null;
    if (!this.units.has(name)) {
      const made = unitChoice(name, spec);
      made.addEventListener("change", () => this.redraw());
      this.units.set(name, made);
    }
    return this.units.get(name);
  }

  rangeOf(spec) {
    const words = spec?.categories ? `one of ${spec.categories.join(", ")}` : spec ? accepted(spec) : "not a variable of this task";
    return element("span", { class: "hint" }, words);
  }

  line(row, i) {
    const controls = new Map();
    this.controls.set(row, controls);
    const line = element("tr");
    for (const name of [HOURS, ...this.columns]) {
      const control = element("input", {
        "aria-label": `${name}, row ${i + 1}`,
        autocomplete: "off",
        inputmode: this.spec.variables[name]?.kind === "category" ? "text" : "decimal",
        oninput: () => {
          row.set(name, control.value);
          this.dropped.clear();
          this.redraw();
        },
      });
      control.value = row.get(name) ?? "";
      controls.set(name, control);
      line.append(element("td", {}, control));
    }
    line.append(element("td", {}, button("\u00d7", () => this.removeRow(row), { class: "quiet remove", "aria-label": `Remove row ${i + 1}` })));
    return line;
  }

  addRow() {
    const row = new Map();
    this.rows.push(row);
    this.added.add(row);
    this.render();
    this.changed();
    this.controls.get(row)?.get(HOURS).focus();
  }

  removeRow(row) {
    const at = [...this.controls.keys()].indexOf(row);
    this.rows.splice(this.rows.indexOf(row), 1);
    if (!this.rows.length) this.rows.push(new Map());
    this.render();
    this.changed();
    const left = [...this.controls.values()];
    (left[at] ?? left.at(-1)).get(HOURS).focus();
  }

  addColumn(name) {
    if (!name) return;
    this.columns.push(name);
    this.render();
    this.changed();
    this.controls.get(this.rows[0]).get(name).focus();
  }

  removeColumn(name) {
    this.columns.splice(this.columns.indexOf(name), 1);
    for (const row of this.rows) row.delete(name);
    this.render();
    this.changed();
    this.adder.focus();
  }

  // ---- tables from elsewhere ----

  paster(id) {
    const control = element("textarea", { id, rows: 5, spellcheck: "false", placeholder: `hours,${Object.keys(this.spec.variables).slice(0, 2).join(",")}\n0.5,\u2026`, "aria-describedby": `${id}-hint` });
    const file = element("input", { type: "file", accept: ".csv,.tsv,.txt,text/csv", "aria-label": "Open a CSV file" });
    file.addEventListener("change", () => {
      this.open(file.files);
      file.value = ""; // so that the same file can be opened again
    });
    return element(
      "details",
      { oninput: (event) => event.stopPropagation() }, // nothing of it is sent before it is taken
      element("summary", {}, "Paste or open CSV"),
      element("label", { for: id }, "CSV, with the column names in the first line"),
      control,
      element("p", { id: `${id}-hint`, class: "hint" }, `One column must be named ${HOURS}. You can also paste a table copied from a spreadsheet, here or into a cell above.`),
      element("div", { class: "choices" }, button("Use as series", () => this.replace(control.value), { class: "quiet" }), file),
    );
  }

  open(files) {
    if (files.length > 1) this.refuse({ what: "More than one file", where: `: ${[...files].map((each) => each.name).join(", ")}. Accepted: one file` });
    else this.files.open(files);
  }

  /** Take a table in the place of a file that is still being read. */
  replace(text) {
    if (this.take(text)) this.files.forget();
  }

  /** Take a table, or say why not; return whether it was taken. */
  take(text) {
    const table = parse(text);
    const [names = [], ...rows] = table.rows;
    const fault = table.fault ?? faultOf(names, rows);
    if (fault) {
      this.refuse(fault);
      return false;
    }
    this.set(names.filter((each) => each && each !== HOURS), rows.map((row) => new Map(names.map((name, i) => [name, this.present(name, row[i])]))));
    this.changed();
    return true;
  }

  /** Say what is not taken into the table, and why. */
  refuse({ what, where }) {
    this.whole.clear();
    this.whole.show("problem", element("strong", {}, what), where);
  }

  present(name, cell) {
    return present(cell, this.spec.variables[name]);
  }

  /** Take a table that is pasted into a cell: a whole one, or cells from there on. */
  pasted(event) {
    const text = event.clipboardData.getData("text");
    const { rows: cells, fault } = copied(text);
    if (parse(text).rows[0]?.includes(HOURS)) {
      event.preventDefault();
      this.replace(text);
    } else if (fault && /[\t\r\n]/.test(text)) {
      event.preventDefault();
      this.refuse(fault);
    } else if (cells.length > 1 || cells[0].length > 1) {
      event.preventDefault();
      this.spread(event.target, cells);
    }
  }

  spread(control, cells) {
    const names = [HOURS, ...this.columns];
    const start = this.rows.findIndex((row) => [...(this.controls.get(row)?.values() ?? [])].includes(control));
    if (start < 0) return;
    const from = [...this.controls.get(this.rows[start]).values()].indexOf(control);
    cells.forEach((line, i) => {
      this.rows[start + i] ??= new Map();
      line.forEach((text, k) => names[from + k] && this.rows[start + i].set(names[from + k], this.present(names[from + k], text)));
    });
    this.render();
    if (cells.some((line) => line.slice(names.length - from).some(Boolean))) {
      this.refuse({ what: "Cells beyond the last column", where: " were left out: add their variables first" });
    }
    this.changed();
  }

  // ---- values ----

  measurements(row) {
    const found = {};
    for (const name of [HOURS, ...this.columns]) {
      const text = (row.get(name) ?? "").trim();
      if (text) found[name] = this.value(name, text);
    }
    return found;
  }

  /** Return a cell's value; one that ends in a unit of the variable has it. */
  value(name, text) {
    const spec = this.spec.variables[name];
    if (spec?.kind === "category") return text;
    if (!spec) return typed(text);
    const value = typed(text);
    return typeof value === "number" ? quantity(value, this.units.get(name)?.value, spec) : (united(text, spec) ?? text);
  }

  /** Draw once, however much is said at once. */
  redraw() {
    if (this.waiting) return;
    this.waiting = true;
    queueMicrotask(() => {
      this.waiting = false;
      this.draw();
    });
  }

  draw() {
    this.plot.replaceChildren(...plots(this.spec, this.columns, this.rows.map((row) => this.measurements(row)), this.dropped));
  }
}

/** The place of a cell's messages: a line under its row, which the row's cells share. */
class CellPlace extends Place {
  constructor(name, control) {
    super(control, element("ul", { id: freshId("cell"), class: "messages" }));
    this.name = name;
  }

  show(tone, ...content) {
    const row = this.control.closest("tr");
    let line = row.nextElementSibling;
    if (!line?.matches(".below")) {
      line = element("tr", { class: "below" }, element("td", { colspan: row.children.length }));
      row.after(line);
    }
    line.firstChild.append(this.list);
    this.control.setAttribute("aria-describedby", this.list.id);
    super.show(tone, `${this.name}: `, ...content);
  }

  clear() {
    super.clear();
    this.control.removeAttribute("aria-describedby");
    this.list.closest(".below")?.remove();
  }
}

/** Return the text of a file, as strictly as the service decodes it. */
async function read(file) {
  if (!/\.(csv|tsv|txt)$/i.test(file.name)) throw new Error("its name must end in .csv, .tsv or .txt");
  const bytes = await file.arrayBuffer();
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new Error("it is not UTF-8; save it from the spreadsheet as CSV UTF-8");
  }
}

/** Return what keeps a table from being a series, as the service has it, and where; nothing where it is one. */
function faultOf(names, rows) {
  if (!names.includes(HOURS)) return { what: `No column named ${HOURS}`, where: ` in the first line: ${names.join(", ") || "there is none"}` };
  const twice = names.find((name, i) => name && names.indexOf(name) < i);
  if (twice) return { what: "A column appears twice", where: `: ${twice}` };
  const odd = rows.findIndex((row) => row.length !== names.length);
  if (odd >= 0) return { what: "A row has the wrong number of cells", where: `: row ${odd + 1} has ${rows[odd].length} ${rows[odd].length === 1 ? "cell" : "cells"}, but the first line names ${names.length}` };
  const unnamed = names.flatMap((name, k) => (name ? [] : [k]));
  for (const [i, row] of rows.entries()) {
    // A spreadsheet writes a comma behind the last column where there was once another.
    const k = unnamed.find((each) => present(row[each]));
    if (k !== undefined) return { what: "A column without a name", where: `: row ${i + 1} has ${row[k]} in column ${k + 1}` };
  }
  return null;
}

/** Return the columns of an empty table: numbers first. */
function offered(variables) {
  const word = (name) => variables[name].kind === "category";
  return Object.keys(variables).sort((a, b) => word(a) - word(b)).slice(0, MOST_OFFERED);
}

function shown(value) {
  if (value === null || value === undefined) return "";
  return typeof value === "object" ? `${value.value} ${value.unit}` : String(value);
}
