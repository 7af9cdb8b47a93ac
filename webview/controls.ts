/**
 * The controls that the webviews' forms and toolbars are made of, on VS Code's webview toolkit. It lays nothing out and knows no run.
 * The rules to keep: this is the only file that imports the toolkit, whose makers have archived it, so that another set can take its place here; a
 * component is registered when it is used here and not before; every control has a name that screen readers say.
 */
import {
  type Button,
  type Checkbox,
  type Dropdown,
  provideVSCodeDesignSystem,
  type TextField,
  vsCodeButton,
  vsCodeCheckbox,
  vsCodeDropdown,
  vsCodeOption,
  vsCodeTextField,
} from "@vscode/webview-ui-toolkit";

export type { Button, Checkbox, Dropdown, TextField };

provideVSCodeDesignSystem().register(vsCodeButton(), vsCodeCheckbox(), vsCodeDropdown(), vsCodeOption(), vsCodeTextField());

/** How much a button calls for being pressed; `quiet` is for small ones in a row of tools. */
export type ButtonWeight = "primary" | "secondary" | "quiet";

/** A button with a text, or, for `quiet`, with a sign whose meaning `name` says. */
export function createButton(text: string, weight: ButtonWeight, onPress: () => void, name?: string): Button {
  const button = document.createElement("vscode-button") as Button;
  // First of all: the toolkit calls an icon button without a name "Icon Button".
  button.setAttribute("aria-label", name ?? text);
  button.setAttribute("appearance", weight === "quiet" ? "icon" : weight);
  button.textContent = text;
  if (name) button.title = name;
  button.addEventListener("click", onPress);
  return button;
}

/** A one-line text field. The label is its name and not drawn: forms write it where they want. */
export function createTextField(label: string): TextField {
  const field = document.createElement("vscode-text-field") as TextField;
  field.textContent = label;
  field.spellcheck = false;
  return field;
}

/** A checkbox with its label beside it. */
export function createCheckbox(label: string, onChange?: (checked: boolean) => void): Checkbox {
  const checkbox = document.createElement("vscode-checkbox") as Checkbox;
  checkbox.textContent = label;
  if (onChange) checkbox.addEventListener("change", () => onChange(checkbox.checked));
  return checkbox;
}

/** A choice out of a few; `text` is shown, `value` told. */
export interface Choice {
  value: string;
  text: string;
}

/** A drop-down list. */
export function createDropdown(label: string, choices: readonly Choice[], onChange?: (value: string) => void): Dropdown {
  const dropdown = document.createElement("vscode-dropdown") as Dropdown;
  dropdown.setAttribute("aria-label", label);
  for (const choice of choices) addChoice(dropdown, choice);
  if (onChange) dropdown.addEventListener("change", () => onChange(dropdown.value));
  return dropdown;
}

/** Shows a value in a drop-down list; one that is not among its choices, since a file may hold anything, becomes one. */
export function setChoice(dropdown: Dropdown, value: string): void {
  const options = [...dropdown.querySelectorAll("vscode-option")];
  if (!options.some((option) => option.getAttribute("value") === value)) addChoice(dropdown, { value, text: value });
  // The list heeds `value` only once its options are known to it, and before that the marks on them.
  for (const option of dropdown.querySelectorAll("vscode-option")) option.toggleAttribute("selected", option.getAttribute("value") === value);
  dropdown.value = value;
}

function addChoice(dropdown: Dropdown, choice: Choice): void {
  const option = document.createElement("vscode-option");
  option.setAttribute("value", choice.value);
  option.textContent = choice.text;
  dropdown.append(option);
}

/** A slider over positions 0 … `last`; the toolkit has none, so it is the browser's. */
export function createSlider(label: string, last: number): HTMLInputElement {
  const slider = document.createElement("input");
  slider.type = "range";
  slider.min = "0";
  slider.max = String(last);
  slider.step = "1";
  slider.setAttribute("aria-label", label);
  return slider;
}

/**
 * Ties a control to the texts under it. A text field's inner input lies in a shadow tree, where ids of the document mean nothing, so it is told the words
 * themselves; it exists from when the field is in the document, which may be a moment later.
 */
export function describeControl(control: HTMLElement, texts: readonly HTMLElement[], invalid: boolean): void {
  const shown = texts.filter((text) => text.textContent !== "");
  setOrRemove(control, "aria-describedby", shown.map(({ id }) => id).join(" "));
  if (control.tagName !== "VSCODE-TEXT-FIELD") {
    setOrRemove(control, "aria-invalid", invalid ? "true" : "");
    return;
  }
  const tellInner = () => {
    const inner = control.shadowRoot?.querySelector("input");
    if (!inner) return false;
    setOrRemove(inner, "aria-description", shown.map(({ textContent }) => textContent).join(" "));
    setOrRemove(inner, "aria-invalid", invalid ? "true" : "");
    return true;
  };
  if (!tellInner()) requestAnimationFrame(tellInner);
}

function setOrRemove(element: HTMLElement, name: string, value: string): void {
  if (value) element.setAttribute(name, value);
  else element.removeAttribute(name);
}
