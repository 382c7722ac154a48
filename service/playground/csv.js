// Tables as text: CSV, or what a spreadsheet puts on the clipboard.

const SEPARATORS = ["\t", ";", ","];

/**
 * Return the rows of a table, each a list of trimmed cells, and its first fault: what and where;
 * blank rows are left out.
 */
export function parse(text) {
  const [first] = text.trimStart().split(/[\r\n]/, 1);
  const separator = SEPARATORS.find((each) => first.includes(each)) ?? ",";
  const { rows, fault } = split(text, separator);
  return { rows: rows.filter((row) => row.some((each) => each)), fault };
}

/** Return the rows of cells copied from a spreadsheet: with what is blank among them, as each keeps its place. */
export function copied(text) {
  return split(text.replace(/(\r\n|\r|\n)$/, ""), "\t");
}

/** Split as the service does: a line ends in LF, CR or both, and a cell in quotes with its second quote. */
function split(text, separator) {
  const rows = [[]];
  let cell = "";
  let quoted = false;
  let closed = false; // the cell's quotes are behind
  let line = 1;
  let opened = 0; // the line of the last quote that opened
  let fault = null;
  const endCell = () => {
    rows.at(-1).push(cell.trim());
    cell = "";
    closed = false;
  };
  for (let i = 0; i < text.length; i += 1) {
    const letter = text[i];
    const ends = letter === "\n" || (letter === "\r" && text[i + 1] !== "\n");
    if (quoted) {
      if (letter !== '"') cell += letter;
      else if (text[i + 1] === '"') cell += text[(i += 1)];
      else [quoted, closed] = [false, true];
    } else if (letter === separator) endCell();
    else if (ends) {
      endCell();
      rows.push([]);
    } else if (letter === "\r") continue; // its LF follows
    else if (closed) fault ??= { what: "Text after a closing quotation mark", where: ` in line ${line}` };
    else if (letter === '"' && !cell.trim()) {
      cell = "";
      quoted = true;
      opened = line;
    } else cell += letter;
    if (ends) line += 1;
  }
  if (quoted) fault ??= { what: "A quotation mark that is not closed", where: ` in line ${opened}` };
  endCell();
  return { rows, fault };
}
