// The command line that repeats a request.

const LONGEST = 100000; // bytes; a shell takes no longer argument than 128 KiB
const FIRST = 3; // file descriptor that is free in a shell

/** Return a curl command. Pictures from files are sent as files, by their names; others as text. */
export function curl(address, record, pictures, withKey) {
  const long = []; // what is no argument and follows the command line
  const lines = [`curl -s ${quoted(address)}`];
  if (withKey) lines.push('-H "Authorization: Bearer $LANISTR_KEY"');
  lines.push(...(pictures.some((each) => each.file) ? form(record, pictures, long) : json(record, long)));
  const end = endOf(long);
  const documents = long.map((each, i) => `${FIRST + i}<<'${end}'`);
  return [[...lines, ...documents].join(" \\\n  "), ...long.flatMap((each) => [each, end])].join("\n");
}

function json(record, long) {
  const body = JSON.stringify(record);
  const type = "-H 'Content-Type: application/json'";
  return [type, isShort(body) ? `-d ${quoted(body)}` : `-d @${later(body, long)}`];
}

function form(record, pictures, long) {
  const lines = [];
  for (const [name, value] of Object.entries(record)) {
    const texts = name === "text" ? [value].flat() : [typeof value === "string" ? value : JSON.stringify(value)];
    if (name === "image") lines.push(...pictures.map(picture));
    else lines.push(...texts.map((each) => (isShort(each) ? field(name, each) : `-F '${name}=<${later(each, long)}'`)));
  }
  return lines;
}

/** Return the file that a text is to be read from. */
function later(text, long) {
  long.push(text);
  return `/dev/fd/${FIRST + long.length - 1}`;
}

/** Return a line that stands in none of the texts. */
function endOf(texts) {
  let end = "RECORD";
  while (texts.some((each) => each.split("\n").includes(end))) end += "_";
  return end;
}

function isShort(text) {
  return new TextEncoder().encode(text).length < LONGEST;
}

function picture({ name, address, file }) {
  if (!file) return field("image", address);
  return `-F ${quoted(`image=@"${name.replace(/[\\"]/g, "\\$&")}"`)}`;
}

function field(name, value) {
  return `--form-string ${quoted(`${name}=${value}`)}`;
}

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
