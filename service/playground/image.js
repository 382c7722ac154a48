// The pictures of a case: dropped, chosen or pasted, shown before they are sent.

import { button, element, freshId } from "./element.js";
import { Files } from "./file.js";
import { messages, Place } from "./message.js";

export const title = "Images";

/** The part as the page has it; see `record.js` for what every part can do. */
export class Part {
  constructor(spec, changed) {
    this.changed = changed;
    this.pictures = []; // name, address (a data URL) and file: whether it lies on the user's disk
    const id = freshId("picture");
    this.input = element("input", {
      id,
      type: "file",
      multiple: true,
      accept: "image/jpeg,image/png,image/webp,image/tiff,image/bmp",
      "aria-describedby": `${id}-messages`,
      oninput: (event) => event.stopPropagation(), // nothing has changed before a file is read
      onchange: () => {
        this.files.open(this.input.files);
        this.input.value = ""; // so that the same file can be chosen again
      },
    });
    this.shown = element("ul", { class: "pictures" });
    const list = messages(id);
    this.whole = new Place(this.input, list);
    this.files = new Files(read, (file, address) => this.take(file, address), this.whole);
    this.element = element(
      "div",
      { class: "drop" },
      element("label", { for: id }, "Drop images here, or choose files"),
      this.input,
      element("p", { class: "hint" }, "JPEG, PNG, WebP, TIFF or BMP"),
      this.shown,
      list,
    );
    this.element.addEventListener("dragover", () => this.element.classList.add("over"));
    this.element.addEventListener("dragleave", () => this.element.classList.remove("over"));
    this.element.addEventListener("drop", (event) => {
      this.element.classList.remove("over");
      this.files.open(event.dataTransfer.files);
    });
  }

  read() {
    const addresses = this.pictures.map((each) => each.address);
    return addresses.length > 1 ? addresses : addresses[0];
  }

  fill(value) {
    this.files.forget();
    this.pictures = [];
    this.shown.replaceChildren();
    for (const address of value ? [value].flat() : []) this.add("sample image", address, false);
  }

  places() {
    return [this.whole, ...this.pictures.map((each) => each.place)];
  }

  place(rest) {
    const index = /^\[(\d+)\]/.exec(rest);
    return this.pictures[index ? Number(index[1]) : 0]?.place ?? this.whole;
  }

  take(file, address) {
    this.add(file.name, address, true, file.size);
    this.changed();
  }

  add(name, address, file, size) {
    const id = freshId("picture");
    const list = messages(id);
    const picture = { name, address, file };
    const remove = button("Remove", () => this.remove(picture), {
      class: "quiet",
      "aria-label": `Remove ${name}`,
      "aria-describedby": `${id}-messages`,
    });
    const preview = element("img", { alt: `Preview of ${name}`, src: address });
    // Browsers do not show every format that the service reads.
    preview.addEventListener("error", () => preview.replaceWith(element("span", { class: "no-preview" }, "no preview")));
    picture.place = new Place(remove, list);
    picture.element = element(
      "li",
      {},
      preview,
      element("div", {}, element("span", { class: "name" }, name), size ? element("span", { class: "hint" }, `${Math.ceil(size / 1000)} kB`) : null, remove, list),
    );
    this.pictures.push(picture);
    this.shown.append(picture.element);
  }

  remove(picture) {
    this.pictures.splice(this.pictures.indexOf(picture), 1);
    picture.element.remove();
    this.input.focus();
    this.changed();
  }
}

/** Return a file as a data URL. */
function read(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}
