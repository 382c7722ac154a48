// Files of the user's disk: read one after another, for the record that they were meant for.

import { element } from "./element.js";

/** The files of a part that are being read. */
export class Files {
  /** `read` promises a file's content, `take` is given the file and that; `place` shows which cannot be read. */
  constructor(read, take, place) {
    this.read = read;
    this.take = take;
    this.place = place;
    this.forget();
  }

  open(files) {
    if (!files.length) return; // something else was dropped
    this.place.clear();
    const { record } = this;
    // What the page itself fails of is no file's fault; the next is read all the same.
    for (const file of files) this.done = this.done.then(() => this.one(file, record)).catch(reportError);
  }

  /** Pass over what is still being read: it was meant for an older record, or table. */
  forget() {
    this.record = {};
    this.done = Promise.resolve(); // once nothing is being read
  }

  async one(file, record) {
    if (record !== this.record) return;
    const { content, error } = await this.read(file).then(
      (content) => ({ content }),
      (error) => ({ error }), // gone meanwhile, a folder, no text
    );
    if (record !== this.record) return;
    if (error) this.place.show("problem", element("strong", {}, "A file could not be read"), `: ${file.name}: ${error.message}`);
    else this.take(file, content);
  }
}
