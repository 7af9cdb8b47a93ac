/**
 * The viewer of a safetensors file: what the file says of itself, its tensors, and the values of the one that is chosen. It keeps nothing that the host
 * cannot send again.
 */
import type { ToTensorFile } from "../../src/protocol/tensorFileProtocol.ts";
import { element } from "../element.ts";
import { onMessage, send } from "../host.ts";
import { setStrings, t } from "../strings.ts";
import { TensorList } from "./tensorList.ts";
import { bytesText, shapeText, type TensorEntry } from "./tensorTable.ts";
import { TensorView } from "./tensorView.ts";
import { type ReadValues, ValueTable } from "./valueTable.ts";
import "./tensors.css";

type Header = Extract<ToTensorFile, { kind: "hydrate" }>["header"];
type Answer = Awaited<ReturnType<ReadValues>>;

const root = document.getElementById("root") as HTMLElement;
const waiting = new Map<number, (answer: Answer) => void>();
let requests = 0;

const read: ReadValues = (name, window) =>
  new Promise((resolve) => {
    const request = requests++;
    waiting.set(request, resolve);
    send({ kind: "read", request, name, window });
  });

function receive(message: ToTensorFile): void {
  if (message.kind === "values") answer(message.request, message);
  else if (message.kind === "missing") answer(message.request, { reason: message.reason });
  else {
    setStrings(message.strings);
    if (message.kind === "hydrate") showFile(message.file, message.header);
    else showRefusal(message.file, message.message, message.action);
  }
}

function answer(request: number, result: Answer): void {
  waiting.get(request)?.(result);
  waiting.delete(request);
}

function showRefusal(file: string, message: string, action: string): void {
  // Most refusals name the file themselves.
  const named = message.includes(file) ? [] : [element("p", { class: "file" }, file)];
  const parts = [element("h1", {}, t("This file cannot be shown")), ...named, element("p", {}, message), element("p", { class: "action" }, action)];
  root.replaceChildren(element("section", { class: "refusal", role: "alert" }, ...parts));
}

function showFile(file: string, header: Header): void {
  const facts = t("{0}, of which the header takes {1}", bytesText(header.bytes), bytesText(header.headerBytes));
  const head = element("header", {}, element("h1", { title: file }, file.split(/[/\\]/).at(-1) ?? file), element("p", {}, facts));
  const metadata = Object.entries(header.metadata);
  if (metadata.length > 0) head.append(createMetadata(metadata));
  const values = element(
    "section",
    { class: "chosen", "aria-label": t("Values") },
    element("p", { class: "hint" }, t("Choose a tensor to see its values.")),
  );
  const list = new TensorList(header.tensors, (tensor) => showValues(values, tensor));
  const body = header.tensors.length === 0 ? [element("p", { class: "hint" }, t("This file holds no tensors."))] : [list.root, values];
  root.replaceChildren(head, element("div", { class: "body" }, ...body));
}

function createMetadata(entries: [string, string][]): HTMLElement {
  const list = element("dl", {}, ...entries.flatMap(([key, value]) => [element("dt", {}, key), element("dd", {}, value)]));
  return element("details", {}, element("summary", {}, t("Metadata ({0})", entries.length)), list);
}

function showValues(container: HTMLElement, tensor: TensorEntry): void {
  const title = element("h2", {}, tensor.name);
  const facts = element("p", {}, `${tensor.dtype}  ${shapeText(tensor.shape)}  ${bytesText(tensor.bytes)}`);
  const view = new TensorView(tensor.name, tensor.shape);
  const note = view.empty ? t("This tensor has no values.") : tensor.shape.length > 2 ? t("All dimensions but the last are rows.") : null;
  container.replaceChildren(title, facts);
  if (note !== null) container.append(element("p", { class: "hint" }, note));
  if (!view.empty) container.append(new ValueTable(view, read).root);
}

addEventListener("error", ({ message }) => send({ kind: "problem", message: message.slice(0, 10_000) }));
addEventListener("unhandledrejection", ({ reason }) => send({ kind: "problem", message: String(reason).slice(0, 10_000) }));
onMessage<ToTensorFile>(receive);
