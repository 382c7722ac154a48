// The record of a case: the parts that its task takes.
//
// Every part can read() what is sent (undefined: absent), fill() itself from a record, name all its
// places() of messages, and find the place() of a path that starts with the part's name. One that
// takes files has them as `files`.

import { element, freshId } from "./element.js";
import * as image from "./image.js";
import { messages, Place } from "./message.js";
import * as tabular from "./tabular.js";
import * as text from "./text.js";
import * as timeseries from "./timeseries.js";

const PARTS = { text, image, tabular, timeseries };

/** Return what people call a part. */
export function titleOf(name) {
  return PARTS[name]?.title ?? name;
}

/** The form of a task. */
export class Record {
  /** `changed` is called when the user changed what would be sent, where no input event says so. */
  constructor(task, changed) {
    this.parts = new Map();
    this.id = caseName();
    const sections = [];
    for (const name of task.modalities.filter((each) => each in PARTS)) {
      const part = new PARTS[name].Part(task[name], changed);
      this.parts.set(name, part);
      const id = freshId("part");
      sections.push(
        element(
          "section",
          { class: "part", "aria-labelledby": id },
          element("h2", { id }, PARTS[name].title, " ", element("code", {}, name)),
          task[name].description ? element("p", { class: "hint" }, task[name].description) : null,
          part.element,
        ),
      );
    }
    this.elements = [...sections, this.id.element];
  }

  read() {
    const record = {};
    const id = this.id.control.value.trim();
    if (id) record.id = id;
    for (const [name, part] of this.parts) {
      const value = part.read();
      if (value !== undefined) record[name] = value;
    }
    return record;
  }

  /** Wait for the files that are being read: they are part of what will be sent. */
  complete() {
    return Promise.all([...this.parts.values()].map((each) => each.files?.done));
  }

  fill(record) {
    this.id.control.value = record.id ?? "";
    for (const [name, part] of this.parts) part.fill(record[name]);
  }

  /** Return the pictures as the page has them: a command line needs their names. */
  get pictures() {
    return this.parts.get("image")?.pictures ?? [];
  }

  clear() {
    this.id.place.clear();
    for (const part of this.parts.values()) for (const each of part.places()) each.clear();
  }

  /** Return where messages about a path are shown; undefined where the record has no such place. */
  place(path) {
    if (path === "id") return this.id.place;
    const [name, part] = this.find(path);
    return part?.place(path.slice(name.length));
  }

  /** Tell a part of an issue that it may want to draw. */
  note(issue) {
    const [name, part] = this.find(issue.field);
    part?.note?.(issue.field.slice(name.length), issue);
  }

  find(path) {
    return [...this.parts].find(([name]) => path === name || /^[.[]/.test(path.slice(name.length)) && path.startsWith(name)) ?? [];
  }
}

function caseName() {
  const id = freshId("name");
  const control = element("input", { id, autocomplete: "off", "aria-describedby": `${id}-hint ${id}-messages` });
  const list = messages(id);
  const hint = element("p", { id: `${id}-hint`, class: "hint" }, element("code", {}, "id"), " is returned with the answer; do not enter anything that identifies a person");
  const field = element("div", { class: "field" }, element("label", { for: id }, "Your ID for the case"), element("div", { class: "with-unit" }, control), hint, list);
  return { control, place: new Place(control, list), element: element("section", { class: "part" }, field) };
}
