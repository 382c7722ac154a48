// The table row of a case: a field for each of the task's.

import { element } from "./element.js";
import { Field } from "./field.js";

export const title = "Table row";

/** The part as the page has it; see `record.js` for what every part can do. */
export class Part {
  constructor(spec) {
    this.fields = new Map(Object.entries(spec.fields).map(([name, each]) => [name, new Field(name, each)]));
    this.element = element("div", { class: "fields" }, ...[...this.fields.values()].map((each) => each.element));
  }

  read() {
    const found = [...this.fields].map(([name, each]) => [name, each.read()]).filter(([, value]) => value !== undefined);
    return found.length ? Object.fromEntries(found) : undefined;
  }

  fill(value) {
    for (const [name, each] of this.fields) each.fill(value?.[name]);
  }

  places() {
    return [...this.fields.values()].map((each) => each.place);
  }

  place(rest) {
    // Names may hold dots themselves: the longest that fits is meant.
    const names = [...this.fields.keys()].filter((each) => `${rest}.`.startsWith(`.${each}.`));
    names.sort((a, b) => b.length - a.length);
    return this.fields.get(names[0])?.place;
  }
}
