/**
 * The run file as a form. It shows what the file says and asks for changes of the file; it keeps no values of its own.
 * The rules to keep: the file is the truth, also while it is wrong; a started run's file is a fact and cannot be changed, only duplicated.
 */
import type { FormView, PanelAction } from "../../src/protocol/panelProtocol.ts";
import { type ButtonWeight, createButton } from "../controls.ts";
import { element } from "../element.ts";
import { send } from "../host.ts";
import { t } from "../strings.ts";
import { answerMs, valueAt } from "./formEdits.ts";
import { createField, type FormField } from "./formEntries.ts";
import { type Field, type FieldGroup, fieldGroups } from "./formFields.ts";
import { budgetField, targetsField } from "./methodFields.ts";
import { actionText } from "./runStatus.ts";
import type { PanelState, Store } from "./store.ts";
import "./runForm.css";

/** Builds the form and keeps it current. */
export function mountRunForm(container: HTMLElement, store: Store): void {
  const form = new RunForm();
  container.append(form.element);
  form.show(store.state);
  store.subscribe((state, changed) => {
    if (changed === "form" || changed === "hydrate") form.show(state);
  });
}

class RunForm {
  readonly element = element("section", { class: "run-form" });
  readonly #file = element("p", { class: "form-file" });
  readonly #empty = element("div", {}, element("p", { class: "empty" }, t("There is no run file here.")), actionButton("newRun", "primary"));
  readonly #readOnly = element(
    "div",
    { class: "form-read-only" },
    element("p", {}, t("This run has started with these values; they cannot be changed any more.")),
    element("div", { class: "button-row" }, actionButton("duplicate"), actionButton("openRunFile"), actionButton("previewData")),
  );
  readonly #problems = element("ul", { class: "form-problems" });
  readonly #groups = element("div", { class: "form-groups" });
  readonly #fields: { field: Field; control: FormField }[] = [];
  #shown: FormView | null = null;

  constructor() {
    this.#groups.append(...fieldGroups.map((group) => this.#group(group)));
    // An edit that the file could not take has no answer: what the file says then comes back into the control.
    this.element.addEventListener("change", () => setTimeout(() => this.#showFields(), answerMs + 100));
    this.element.append(element("h2", {}, t("Run file")), this.#file, this.#empty, this.#readOnly, this.#problems, this.#groups);
  }

  show({ form }: PanelState): void {
    if (form === this.#shown && form !== null) return;
    this.#shown = form;
    this.#empty.hidden = form !== null;
    for (const part of [this.#file, this.#problems, this.#groups]) part.hidden = form === null;
    this.#readOnly.hidden = form === null || form.editable;
    if (!form) return;
    this.element.dataset.editable = String(form.editable);
    this.#writeFile(form);
    this.#showFields();
    this.#writeProblems(form);
  }

  #showFields(): void {
    const form = this.#shown;
    if (!form) return;
    const method = valueAt(form.values, "method.name");
    this.element.dataset.method = String(method);
    for (const { field, control } of this.#fields) {
      control.element.hidden = field.methods !== undefined && !field.methods.some((name) => name === method);
      // Another method's key has no value here.
      if (!control.element.hidden) control.show(form);
    }
  }

  #group({ title, fields }: FieldGroup): HTMLElement {
    const group = element("fieldset", {}, element("legend", {}, title()));
    for (const field of fields) {
      const control = field.entry.kind === "budget" ? budgetField(field) : field.entry.kind === "targets" ? targetsField(field) : createField(field);
      this.#fields.push({ field, control });
      group.append(control.element);
    }
    return group;
  }

  #writeFile({ file }: FormView): void {
    if (this.#file.title === file && this.#file.firstChild) return;
    this.#file.title = file;
    this.#file.replaceChildren(file.split(/[\\/]/).at(-1) ?? file);
  }

  /** Problems of keys that no visible field shows; the file's own come first, as it has them. */
  #writeProblems({ problems }: FormView): void {
    const shown = this.#fields.filter(({ control }) => !control.element.hidden).flatMap(({ control }) => [...control.paths]);
    const others = problems.filter(({ path }) => !shown.some((own) => path === own || path.startsWith(`${own}[`) || path.startsWith(`${own}.`)));
    const text = ({ path, message, line }: FormView["problems"][number]) =>
      path === "" ? t("Line {0}: the run file {1}", line, message) : t("Line {0}: {1}", line, `${path} ${message}`);
    this.#problems.replaceChildren(...others.map((problem) => element("li", {}, text(problem))));
    this.element.dataset.problems = String(problems.length);
  }
}

function actionButton(action: PanelAction, weight: ButtonWeight = "secondary"): HTMLElement {
  return createButton(actionText(action), weight, () => send({ kind: "action", action }));
}
