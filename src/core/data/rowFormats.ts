/**
 * What a row means: the layouts of fine-tuning data, recognised by their fields, and turned into one of three shapes.
 * It renders no prompt and knows no tokenizer. The rule to keep: a row that does not fit gives a reason a person can act on; nothing is guessed
 * from a value, only from field names.
 */

/** Layouts of a row; the run file names them. */
export type RowFormat = "promptCompletion" | "alpaca" | "questionAnswer" | "chat" | "text";

export interface Message {
  role: "system" | "user" | "assistant" | "tool";
  content: string;
}

/** A row in one of three shapes. `instruction` and `input` of an alpaca row are kept apart for the layouts that need them. */
export type Example =
  | { shape: "text"; text: string; continues: boolean }
  | { shape: "response"; layout: "promptCompletion" | "alpaca" | "questionAnswer"; prompt: string; input: string; response: string }
  | { shape: "chat"; messages: Message[] };

const roleNames = new Map<string, Message["role"]>([
  ["system", "system"],
  ["developer", "system"],
  ["user", "user"],
  ["human", "user"],
  ["assistant", "assistant"],
  ["gpt", "assistant"],
  ["model", "assistant"],
  ["tool", "tool"],
]);

type Fields = Record<string, unknown>;

/** The first field of these names that is there. */
function field(row: Fields, ...names: string[]): unknown {
  const name = names.find((candidate) => Object.hasOwn(row, candidate));
  return name === undefined ? undefined : row[name];
}

/** The layout whose fields the row has, or null. */
export function detectFormat(value: unknown): RowFormat | null {
  if (!isFields(value)) return null;
  const has = (...names: string[]): boolean => field(value, ...names) !== undefined;
  if (has("messages", "conversations")) return "chat";
  if (has("prompt") && has("completion", "response")) return "promptCompletion";
  if (has("instruction") && has("output", "response")) return "alpaca";
  if (has("question") && has("answer")) return "questionAnswer";
  return has("text") ? "text" : null;
}

/** The row as an example, or the reason why it is none. */
export function readExample(value: unknown, format: RowFormat): Example | string {
  if (!isFields(value)) return "it is not an object";
  switch (format) {
    case "text":
      return readTextRow(value);
    case "promptCompletion":
      return readResponse(value, format, "prompt", ["completion", "response"]);
    case "alpaca":
      return readResponse(value, format, "instruction", ["output", "response"], ["input", "context"]);
    case "questionAnswer":
      return readResponse(value, format, "question", ["answer"]);
    case "chat":
      return readChat(value);
  }
}

function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function readTextRow(row: Fields): Example | string {
  const text = readString(row, ["text"]);
  if ("problem" in text) return text.problem;
  if (text.value === "") return '"text" is empty';
  return { shape: "text", text: text.value, continues: row.continues === true };
}

function readResponse(
  row: Fields,
  layout: "promptCompletion" | "alpaca" | "questionAnswer",
  promptName: string,
  responseNames: string[],
  inputNames: string[] = [],
): Example | string {
  const prompt = readString(row, [promptName]);
  if ("problem" in prompt) return prompt.problem;
  const response = readString(row, responseNames);
  if ("problem" in response) return response.problem;
  if (response.value.trim() === "") return `"${responseNames[0]}" is empty`;
  const given = field(row, ...inputNames);
  const input = given === undefined || given === null ? { value: "" } : readString(row, inputNames);
  if ("problem" in input) return input.problem;
  return { shape: "response", layout, prompt: prompt.value, input: input.value, response: response.value };
}

/** A text field, by the first of its names that is there. */
function readString(row: Fields, names: string[]): { value: string } | { problem: string } {
  const value = field(row, ...names);
  if (value === undefined) return { problem: `"${names[0]}" is missing` };
  return checkText(value, `"${names[0]}"`);
}

function checkText(value: unknown, name: string): { value: string } | { problem: string } {
  if (typeof value !== "string") return { problem: `${name} is not text` };
  if (value.includes("\0")) return { problem: `${name} holds a NUL character` };
  if (/\p{Surrogate}/u.test(value)) return { problem: `${name} holds half of a character (a lone surrogate)` };
  return { value };
}

function readChat(row: Fields): Example | string {
  const list = field(row, "messages", "conversations");
  if (!Array.isArray(list) || list.length === 0) return "the messages are not a list with entries";
  const tools = field(row, "tools", "functions");
  if (Array.isArray(tools) && tools.length > 0) return "it defines tools, which are not supported";
  const messages: Message[] = [];
  for (const [index, entry] of list.entries()) {
    const message = readMessage(entry);
    if (typeof message === "string") return `message ${index + 1}: ${message}`;
    messages.push(message);
  }
  return messages.some(({ role }) => role === "assistant") ? { shape: "chat", messages } : "no message is by the assistant";
}

function readMessage(entry: unknown): Message | string {
  if (!isFields(entry)) return "it is not an object";
  const name = field(entry, "role", "from");
  const role = typeof name === "string" ? roleNames.get(name) : undefined;
  if (typeof name !== "string") return "it has no role";
  if (role === undefined) return `the role ${JSON.stringify(name.slice(0, 40))} is unknown`;
  const calls = field(entry, "tool_calls", "function_call");
  if (calls !== undefined && calls !== null) return "it calls tools, which is not supported";
  const text = readContent(field(entry, "content", "value"));
  if ("problem" in text) return text.problem;
  if (role === "assistant" && text.value.trim() === "") return "the assistant says nothing";
  return { role, content: text.value };
}

/** Text, or a list of {type: "text", text} parts. */
function readContent(content: unknown): { value: string } | { problem: string } {
  if (!Array.isArray(content)) return checkText(content, "the content");
  const parts: string[] = [];
  for (const part of content) {
    if (!isFields(part) || part.type !== "text") return { problem: "the content has a part that is not text" };
    const text = checkText(part.text, "the content");
    if ("problem" in text) return text;
    parts.push(text.value);
  }
  return { value: parts.join("") };
}
