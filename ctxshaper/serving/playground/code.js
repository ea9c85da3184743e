// The line of code that does what the page shows.

export function python(asked) {
  const passages = asked.passages.map((one) => `    ${passage(one)},\n`).join("");
  return [
    "from ctxshaper import Passage, Pipeline",
    "",
    `shaper = Pipeline.from_recipe(${literal(asked.model)})`,
    `shaped = shaper.shape(${literal(asked.query)}, [\n${passages}], budget=${literal(asked.budget)})`,
    "print(shaped.text)",
  ].join("\n");
}

export function curl(asked, address, locked) {
  const key = locked ? " -H \"authorization: Bearer $CTXSHAPER_API_KEY\"" : "";
  // All on one line: no text can end it.
  return `curl -s ${address}v1/shape -H 'content-type: application/json'${key} --data-binary @- <<'END'\n${JSON.stringify(asked)}\nEND`;
}

function passage(one) {
  if (typeof one === "string") return literal(one);
  const { text, id, title, score, metadata } = one;
  const named = { id, score, metadata: title ? { ...metadata, title } : metadata };
  const rest = Object.entries(named).filter(([, value]) => value !== undefined && value !== null);
  return `Passage(${[literal(text), ...rest.map(([name, value]) => `${name}=${literal(value)}`)].join(", ")})`;
}

// A value as Python writes it: its strings take the escapes of JSON.
function literal(value) {
  if (value === null || value === undefined) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value === "object")
    return `{${Object.entries(value)
      .map(([name, inner]) => `${JSON.stringify(name)}: ${literal(inner)}`)
      .join(", ")}}`;
  return JSON.stringify(value);
}
