// Tables as text: CSV, or what a spreadsheet puts on the clipboard.

const MISSING = new Set(["na", "n/a", "nan", "null"]); // as the service has it
const SEPARATORS = ["\t", ";", ","];

/** Return the rows of a table, each a list of trimmed cells; blank rows are left out. */
export function parse(text) {
  const first = text.slice(0, (text.indexOf("\n") + 1 || text.length + 1) - 1);
  const separator = SEPARATORS.find((each) => first.includes(each)) ?? ",";
  return split(text, separator).filter((row) => row.some((each) => each));
}

/** Return the rows of cells copied from a spreadsheet: with what is blank among them, as each keeps its place. */
export function copied(text) {
  return split(text.replace(/\r?\n$/, ""), "\t");
}

function split(text, separator) {
  const rows = [[]];
  let cell = "";
  let quoted = false;
  const endCell = () => {
    rows.at(-1).push(present(cell.trim()));
    cell = "";
  };
  for (let i = 0; i < text.length; i += 1) {
    const letter = text[i];
    if (quoted) {
      if (letter !== '"') cell += letter;
      else if (text[i + 1] === '"') cell += text[(i += 1)];
      else quoted = false;
    } else if (letter === '"' && !cell.trim()) {
      cell = "";
      quoted = true;
    } else if (letter === separator) endCell();
    else if (letter === "\n") {
      endCell();
      rows.push([]);
    } else if (letter !== "\r" && letter !== "\ufeff") cell += letter;
  }
  endCell();
  return rows;
}

function present(cell) {
  return MISSING.has(cell.toLowerCase()) ? "" : cell;
}
