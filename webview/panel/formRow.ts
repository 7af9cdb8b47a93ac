/**
 * The frame of one field of the form: its label, whether the value is the default and how to go back to it, the control, a hint, and what is wrong with it.
 * It holds controls of any kind and knows no key's meaning.
 */
import { createButton, describeControl } from "../controls.ts";
import { element } from "../element.ts";
import { t } from "../strings.ts";

let rows = 0;

export class FormRow {
  readonly element: HTMLElement;
  readonly #controls = element("div", { class: "form-controls" });
  readonly #hint: HTMLElement;
  readonly #problem: HTMLElement;
  readonly #default = element("span", { class: "form-default" }, t("default"));
  readonly #reset: HTMLElement;
  readonly #described: HTMLElement[] = [];
  #fileProblem = "";
  #entryProblem = "";

  constructor(path: string, label: string, hint: string, onReset: () => void) {
    const id = `field-${++rows}`;
    this.#reset = createButton("↺", "quiet", onReset, t("Back to the default: {0}", label));
    this.#hint = element("div", { class: "form-hint", id: `${id}-hint` }, hint);
    this.#problem = element("div", { class: "form-problem", id: `${id}-problem` });
    const head = element("div", { class: "form-label" }, element("span", {}, label), this.#default, this.#reset);
    this.element = element("div", { class: "form-row", "data-path": path }, head, this.#controls, this.#hint, this.#problem);
  }

  /** Adds controls; `described` are those that the hint and the problem belong to. */
  add(elements: readonly HTMLElement[], described: readonly HTMLElement[] = elements): void {
    this.#controls.append(...elements);
    this.#described.push(...described);
  }

  /** What the file says of the field. */
  show(given: boolean, resettable: boolean, problem: string): void {
    this.element.dataset.given = String(given);
    this.#default.hidden = given;
    this.#reset.hidden = !given || !resettable;
    this.#fileProblem = problem;
    this.#describe();
  }

  /** An entry that was not sent to the file, with the reason; empty when there is none. */
  setEntryProblem(problem: string): void {
    if (problem === this.#entryProblem) return;
    this.#entryProblem = problem;
    this.#describe();
  }

  #describe(): void {
    const problem = this.#entryProblem || this.#fileProblem;
    this.#problem.textContent = problem;
    this.element.dataset.problem = String(problem !== "");
    for (const control of this.#described) describeControl(control, [this.#problem, this.#hint], problem !== "");
  }
}
