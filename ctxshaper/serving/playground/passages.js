// Passages as they stand in the text field.

// A list as /v1/shape takes it. Throws an Error that says what is wrong.
export function parsed(text) {
  if (text.trimStart().startsWith("[")) {
    const list = asJson(text);
    if (list) return list;
  }
  const found = [];
  let current = null;
  for (const line of text.split("\n")) {
    if (line.startsWith("---")) {
      current = { title: line.replace(/^-+/, "").trim(), lines: [] };
      found.push(current);
    } else {
      if (!current) found.push((current = { title: "", lines: [] }));
      current.lines.push(line);
    }
  }
  return found
    .map(({ title, lines }) => ({ title, text: lines.join("\n").trim() }))
    .filter(({ text }) => text)
    .map(({ title, text }) => (title ? { text, title } : text));
}

// Text that begins with a bracket may be a log or a citation just as well.
function asJson(text) {
  let list;
  try {
    list = JSON.parse(text);
  } catch {
    return null;
  }
  if (!Array.isArray(list)) return null;
  if (!list.every((one) => typeof one === "string" || typeof one?.text === "string"))
    throw new Error('This is a JSON list, but not of texts or of objects with "text".');
  return list;
}

// The other way round, for samples.
export function written(passages) {
  return passages.map(({ title, text }) => `--- ${title}\n${text}`).join("\n\n");
}
