// One field of a row: a number with its unit, or a word among several.

import { element, freshId } from "./element.js";
import { messages, Place } from "./message.js";
import { accepted, clipped, typed } from "./number.js";
import { quantity, unitsOf } from "./unit.js";

/** A field's label, control, hint and messages. */
export class Field {
  constructor(name, spec) {
    this.spec = spec;
    const id = freshId("field");
    const described = `${id}-hint ${id}-messages`;
    this.number = spec.kind === "number";
    this.control = this.number || !spec.categories ? line(id, described, this.number) : choice(id, described, spec);
    this.unit = this.number && unitsOf(spec).length > 1 ? unitChoice(name, spec) : null;
    const list = messages(id);
    this.place = new Place(this.control, list);
    const range = this.number ? [accepted(spec), clipped(spec)].filter(Boolean) : [];
    this.element = element(
      "div",
      { class: "field" },
      element("label", { for: id }, spec.description || name),
      element("div", { class: "with-unit" }, this.control, this.unit ?? element("span", {}, this.number ? (spec.unit ?? "") : "")),
      element(
        "p",
        { id: `${id}-hint`, class: "hint" },
        spec.description ? element("code", {}, name) : null,
        range.length ? ` ${range.join(" ")}` : this.number || spec.categories ? "" : " any text",
      ),
      list,
    );
  }

  /** Return the value as the service takes it; undefined where it is missing. */
  read() {
    const text = this.control.value.trim();
    if (!text) return undefined;
    return this.number ? quantity(typed(text), this.unit?.value, this.spec) : text;
  }

  /** Show a value as the service takes it; undefined and null are missing. */
  fill(value) {
    const named = value !== null && typeof value === "object";
    const text = String((named ? value.value : value) ?? "");
    offer(this.control, text);
    this.control.value = text;
    if (!this.unit) return;
    const unit = named ? value.unit : (this.spec.unit ?? "");
    offer(this.unit, unit);
    this.unit.value = unit;
  }
}

/** Return a choice among a field's units. */
export function unitChoice(name, spec) {
  const made = element("select", { class: "unit", "aria-label": `Unit of ${name}` });
  for (const unit of unitsOf(spec)) made.append(element("option", { value: unit }, unit || "no unit"));
  return made;
}

function line(id, described, number) {
  return element("input", {
    id,
    "aria-describedby": described,
    autocomplete: "off",
    spellcheck: "false",
    inputmode: number ? "decimal" : "text",
  });
}

function choice(id, described, spec) {
  const made = element("select", { id, "aria-describedby": described });
  made.append(element("option", { value: "" }, "not given"));
  for (const word of spec.categories) made.append(element("option", { value: word }, word));
  return made;
}

/** Let a choice also hold what is not among its options: a sample may show what happens then. */
function offer(control, text) {
  if (!(control instanceof HTMLSelectElement)) return;
  if (![...control.options].some((each) => each.value === text)) {
    control.append(element("option", { value: text }, text));
  }
}
