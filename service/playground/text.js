// The notes of a case: one, or several in order.

import { button, element, freshId } from "./element.js";
import { messages, Place } from "./message.js";

export const title = "Notes";

/** The part as the page has it; see `record.js` for what every part can do. */
export class Part {
  constructor(spec, changed) {
    this.changed = changed;
    this.notes = [];
    this.number = 0; // of the note that was added last
    this.sent = [];
    this.list = element("div", { class: "notes" });
    const more = button("Add a note", () => this.add("").control.focus(), { class: "quiet" });
    this.element = element("div", {}, this.list, more);
    this.add("");
  }

  read() {
    this.sent = this.notes.filter((each) => each.control.value.trim());
    const texts = this.sent.map((each) => each.control.value);
    return texts.length > 1 ? texts : texts[0];
  }

  fill(value) {
    this.list.replaceChildren();
    this.notes = [];
    this.number = 0;
    for (const text of [value ?? ""].flat()) this.add(text ?? "");
  }

  places() {
    return this.notes.map((each) => each.place);
  }

  place(rest) {
    const index = /^\[(\d+)\]/.exec(rest);
    return (index ? this.sent[Number(index[1])] : (this.sent[0] ?? this.notes[0]))?.place;
  }

  add(text) {
    const id = freshId("note");
    const control = element("textarea", { id, rows: 4, "aria-describedby": `${id}-messages` });
    control.value = text;
    const list = messages(id);
    const note = { control, place: new Place(control, list) };
    this.notes.push(note);
    const number = (this.number += 1);
    const remove = () => {
      this.notes.splice(this.notes.indexOf(note), 1);
      note.element.remove();
      this.changed();
      this.notes.at(-1).control.focus(); // the first cannot be removed
    };
    note.element = element(
      "div",
      { class: "note" },
      element("label", { for: id }, `Note ${number}`),
      number > 1 ? button("Remove", remove, { class: "quiet", "aria-label": `Remove note ${number}` }) : null,
      control,
      list,
    );
    this.list.append(note.element);
    return note;
  }
}
