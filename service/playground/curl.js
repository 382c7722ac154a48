// The command line that repeats a request.

const LONGEST = 100000; // a shell takes no longer argument than 128 KiB

/** Return a curl command. Pictures from files are sent as files, by their names; others as text. */
export function curl(address, record, pictures, withKey) {
  const lines = [`curl -s ${quoted(address)}`];
  if (withKey) lines.push('-H "Authorization: Bearer $LANISTR_KEY"');
  lines.push(...(pictures.some((each) => each.file) ? form(record, pictures) : json(record)));
  return lines.join(" \\\n  ");
}

function json(record) {
  const body = JSON.stringify(record);
  const type = "-H 'Content-Type: application/json'";
  return [type, body.length < LONGEST ? `-d ${quoted(body)}` : `-d @- ${here(body)}`];
}

function form(record, pictures) {
  const lines = [];
  const last = [];
  for (const [name, value] of Object.entries(record)) {
    const text = typeof value === "string" ? value : JSON.stringify(value);
    if (name === "image") lines.push(...pictures.map(picture));
    else if (name === "text") lines.push(...[value].flat().map((each) => field(name, each)));
    else if (text.length < LONGEST) lines.push(field(name, text));
    else last.push(`-F '${name}=<-' ${here(text)}`);
  }
  return [...lines, ...last];
}

function here(text) {
  return `<<'RECORD'\n${text}\nRECORD`;
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
