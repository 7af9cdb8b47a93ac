/**
 * The two fields of the method that are more than one control: how much is trained (three keys that exclude each other, one of them with a slider), and which
 * matrices it is about.
 */
import { createCheckbox, createDropdown, createSlider, createTextField, setChoice } from "../controls.ts";
import { element } from "../element.ts";
import { t } from "../strings.ts";
import { formatPercent } from "./byteUnits.ts";
import { budgetKeyOf, chosenTargets, EntrySync, numberEntry, removeKey, targetsEntry, valueAt, valueText } from "./formEdits.ts";
import { type FormField, problemText, sendEdit, whenTyped } from "./formEntries.ts";
import { type BudgetKey, budgetKeys, type Field, projections, ratioSteps } from "./formFields.ts";
import { FormRow } from "./formRow.ts";
import type { PanelState } from "./store.ts";

type Form = NonNullable<PanelState["form"]>;

const budgetPaths = budgetKeys.map((key) => `method.${key}`);

/** The budget: a kind, a number and, for a ratio, a slider over its usual values. Another kind is written with its first number, not before. */
export function budgetField(field: Field): FormField {
  return new BudgetField(field);
}

class BudgetField implements FormField {
  readonly element: HTMLElement;
  readonly paths = budgetPaths;
  readonly #row: FormRow;
  readonly #sync = new EntrySync();
  readonly #kind;
  readonly #number;
  readonly #slider;
  #form: Form | null = null;
  /** The kind on the screen; `#fileKind` is the file's. */
  #shownKind: BudgetKey = "ratio";
  #fileKind: BudgetKey | null = null;
  #written = "";

  constructor(field: Field) {
    const label = field.label();
    this.#row = new FormRow(field.path, label, t("Share of the model's 2-D parameters, number of blocks, or number of parameters."), () =>
      sendEdit(this.#given().map(removeKey)),
    );
    this.element = this.#row.element;
    this.#kind = createDropdown(t("Budget given as"), budgetChoices(), (value) => this.#setKind(value as BudgetKey));
    this.#number = createTextField(label);
    this.#slider = createSlider(t("Ratio"), ratioSteps.length - 1);
    this.#slider.addEventListener("input", () => {
      this.#number.value = String(ratioSteps[Number(this.#slider.value)]);
      this.#tellSlider();
    });
    whenTyped(this.#slider, (done) => this.#commit(done));
    whenTyped(this.#number, (done) => this.#commit(done));
    this.#row.add([this.#kind, this.#number, this.#slider], [this.#number]);
  }

  show(form: Form): void {
    this.#form = form;
    const kind = budgetKeyOf(form);
    const value = valueAt(form.values, `method.${kind}`);
    if (kind !== this.#fileKind || !form.editable) this.#shownKind = kind;
    if (!form.editable) this.#sync.forget();
    this.#fileKind = kind;
    setChoice(this.#kind, this.#shownKind);
    this.#kind.disabled = this.#slider.disabled = !form.editable;
    this.#number.readOnly = !form.editable;
    const focused = document.activeElement === this.#number || document.activeElement === this.#slider;
    if (this.#sync.accepts([kind, value], focused, performance.now()) && kind === this.#shownKind) this.#write(valueText(value));
    this.#showSlider();
    const given = this.#given().length > 0;
    this.#row.show(given, form.editable, problemText(form, budgetPaths));
  }

  #given(): string[] {
    return budgetPaths.filter((path) => this.#form?.given.includes(path));
  }

  #write(text: string): void {
    this.#written = text;
    this.#number.value = text;
    this.#row.setEntryProblem("");
  }

  #setKind(kind: BudgetKey): void {
    this.#shownKind = kind;
    this.#write(kind === this.#fileKind ? valueText(valueAt(this.#form?.values, `method.${kind}`)) : "");
    this.#showSlider();
  }

  #commit(done: boolean): void {
    const text = this.#number.value;
    if (!this.#form?.editable || text === this.#written) return;
    const path = `method.${this.#shownKind}`;
    const changes = numberEntry(path, text, { integer: this.#shownKind !== "ratio", emptyIsNull: false }, this.#form.given);
    this.#row.setEntryProblem(changes ? "" : t("This is no number: the run file stays as it is."));
    const value = changes?.at(-1)?.value;
    if (!changes || (value === undefined && !done)) return;
    if (value === undefined) {
      // No number: what the file says comes back, and the key goes if it stands there.
      this.#sync.forget();
      if (!this.#form.given.includes(path)) {
        this.show(this.#form);
        return;
      }
    } else this.#sync.sent([this.#shownKind, value], performance.now());
    this.#written = text;
    this.#showSlider();
    sendEdit(changes);
  }

  /** The slider stands at the step nearest to the number. */
  #showSlider(): void {
    this.#slider.hidden = this.#shownKind !== "ratio";
    const ratio = Number(this.#number.value);
    if (this.#slider.hidden || !(ratio > 0) || document.activeElement === this.#slider) return;
    const distance = (step: number) => Math.abs(Math.log(step / ratio));
    const nearest = ratioSteps.reduce((best, step, i) => (distance(step) < distance(ratioSteps[best]) ? i : best), 0);
    this.#slider.value = String(nearest);
    this.#tellSlider();
  }

  #tellSlider(): void {
    this.#slider.setAttribute("aria-valuetext", formatPercent(ratioSteps[Number(this.#slider.value)]));
  }
}

function budgetChoices(): { value: BudgetKey; text: string }[] {
  return [
    { value: "ratio", text: t("ratio") },
    { value: "blocks", text: t("blocks") },
    { value: "trainableParameters", text: t("parameters") },
  ];
}

/** A checkbox a projection. What else the file names stays and is shown. */
export function targetsField(field: Field): FormField {
  const row = new FormRow(field.path, field.label(), field.hint?.() ?? "", () => sendEdit([removeKey(field.path)]));
  const others = element("span", { class: "muted" });
  let form: Form | null = null;
  const boxes = projections.map((projection) =>
    createCheckbox(projection.replace("_proj", ""), (chosen) => {
      if (!form?.editable) return;
      const before = valueAt(form.values, field.path);
      if (chosenTargets(before).projections.includes(projection) === chosen) return;
      const changes = targetsEntry(before, projection, chosen);
      row.setEntryProblem(changes ? "" : t("At least one kind of matrix has to be named: the run file stays as it is."));
      if (changes) sendEdit(changes);
    }),
  );
  for (const [i, box] of boxes.entries()) box.dataset.target = projections[i];
  const group = element("div", { class: "form-checkboxes", role: "group", "aria-label": field.label() }, ...boxes, others);
  row.add([group]);
  return {
    element: row.element,
    paths: [field.path],
    show(next) {
      form = next;
      const chosen = chosenTargets(valueAt(next.values, field.path));
      for (const [i, box] of boxes.entries()) {
        box.checked = chosen.projections.includes(projections[i]);
        box.disabled = !next.editable;
      }
      others.textContent = chosen.others.length > 0 ? t("and {0}", chosen.others.join(", ")) : "";
      row.setEntryProblem("");
      row.show(next.given.includes(field.path), next.editable, problemText(next, [field.path]));
    },
  };
}
