/**
 * The form's single-key fields as controls: a path with its dialog, a number, a choice. Typing is sent when it rests, a choice at once.
 * The rules to keep: a form that comes back does not overwrite what a person is typing, unless the file says something nobody here has sent; what is no
 * value of its kind is not sent, and the field says so.
 */
import type { FormView, FromPanel } from "../../src/protocol/panelProtocol.ts";
import { createButton, createDropdown, createTextField, setChoice } from "../controls.ts";
import { send } from "../host.ts";
import { t } from "../strings.ts";
import { EntrySync, type FormChange, removeKey, setKey, valueAt, valueText } from "./formEdits.ts";
import { type Field, methodNames } from "./formFields.ts";
import { FormRow } from "./formRow.ts";
import { methodChoice } from "./methodTexts.ts";
import { comparable, entryOf, entryProblem, keyOf, shownText } from "./typedEntries.ts";

/** A field on the screen. */
export interface FormField {
  readonly element: HTMLElement;
  /** Keys whose problems it shows. */
  readonly paths: readonly string[];
  show(form: FormView): void;
}

/** Typing is sent after it rested this long. */
const restMs = 150;

export function sendEdit(changes: FormChange[]): void {
  send({ kind: "edit", changes });
}

/** What is wrong with these keys or parts of them, as one text. */
export function problemText(form: FormView, paths: readonly string[]): string {
  const mine = form.problems.filter(({ path }) => paths.some((own) => path === own || path.startsWith(`${own}[`) || path.startsWith(`${own}.`)));
  return mine.map(({ path, message }) => `${path.split(".").at(-1)} ${message}`).join("; ");
}

/** Calls `commit` when typing rests, and at once when the entry is left or Enter is pressed. */
export function whenTyped(control: HTMLElement, commit: (done: boolean) => void): void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  control.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => commit(false), restMs);
  });
  control.addEventListener("change", () => {
    clearTimeout(timer);
    commit(true);
  });
}

/** The control of a field with one key. */
export function createField(field: Field): FormField {
  const { entry } = field;
  if (entry.kind === "choice") return choiceField(field, entry.choices.map(String), choiceParser(entry.choices));
  if (entry.kind === "method") return choiceField(field, methodNames, (value) => value);
  return typedField(field);
}

function choiceParser(choices: readonly (string | number | boolean)[]): (text: string) => FormChange["value"] {
  return (text) => choices.find((choice) => String(choice) === text) ?? text;
}

function choiceField(field: Field, choices: readonly string[], parse: (text: string) => FormChange["value"]): FormField {
  const sync = new EntrySync();
  const row = new FormRow(field.path, field.label(), field.hint?.() ?? "", () => sendEdit([removeKey(field.path)]));
  const dropdown = createDropdown(
    field.label(),
    // The run file's own words; methods also have a name.
    choices.map((value) => ({ value, text: field.entry.kind === "method" ? methodChoice(value) : value })),
    (text) => {
      const value = parse(text);
      sync.sent(value, performance.now());
      sendEdit([setKey(field.path, value)]);
    },
  );
  row.add([dropdown]);
  return {
    element: row.element,
    paths: [field.path],
    show(form) {
      const value = valueAt(form.values, field.path);
      dropdown.disabled = !form.editable;
      if (!form.editable) sync.forget();
      // A choice is made at once, so having the focus is not being worked on.
      if (sync.accepts(value, false, performance.now())) setChoice(dropdown, valueText(value));
      row.show(form.given.includes(field.path), form.editable && field.hasDefault, problemText(form, [field.path]));
    },
  };
}

function typedField(field: Field): FormField {
  const key = keyOf(field);
  const sync = new EntrySync();
  const row = new FormRow(field.path, field.label(), field.hint?.() ?? "", () => sendEdit([removeKey(key)]));
  const control = createTextField(field.label());
  const browse = field.entry.kind === "path" ? browseButton(field) : null;
  row.add(browse ? [control, browse] : [control], [control]);
  let form: FormView | null = null;
  let written = "";
  whenTyped(control, (done) => {
    if (!form?.editable || control.value === written) return;
    const entry = entryOf(field, control.value, form);
    row.setEntryProblem(entry ? "" : entryProblem(field));
    // An empty field on its way to another number is not yet a wish for the default.
    if (!entry || (!done && entry.value === undefined)) return;
    const { changes, value } = entry;
    if (value !== undefined) sync.sent(comparable(field, value), performance.now());
    else sync.forget();
    // What is entered as it stands, or a default that is taken back, changes nothing in the file, so no answer comes.
    if (changes.length === 0 || (value === undefined && !form.given.includes(key))) return show(form);
    written = control.value;
    sendEdit(changes);
  });
  const show = (next: FormView) => {
    form = next;
    const value = valueAt(next.values, field.path);
    control.readOnly = !next.editable;
    if (browse) browse.hidden = !next.editable;
    if (!next.editable) sync.forget();
    if (sync.accepts(comparable(field, value), document.activeElement === control, performance.now())) {
      written = shownText(field, value);
      control.value = written;
      row.setEntryProblem("");
    }
    row.show(next.given.includes(key), next.editable && field.hasDefault, problemText(next, [key]));
  };
  return { element: row.element, paths: [key], show };
}

function browseButton(field: Field): HTMLElement {
  const path = field.path as Extract<FromPanel, { kind: "browse" }>["path"];
  return createButton(t("Browse…"), "secondary", () => send({ kind: "browse", path }), t("Browse for: {0}", field.label()));
}
