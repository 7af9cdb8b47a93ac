/**
 * Texts of the webviews in the display language. The English text is the key; the extension host sends the translations with the first message.
 * The rule to keep: the first argument of `t` is a literal, so that a test can find every text; what a person or a file named is an argument.
 */

let translations: Readonly<Record<string, string>> = {};

/** Takes the display language's texts, English text → translation. Called before anything is drawn. */
export function setStrings(strings: Readonly<Record<string, string>>): void {
  translations = strings;
}

/** Whether texts stand as they are in the code. */
export function isEnglish(): boolean {
  return Object.keys(translations).length === 0;
}

/** The text in the display language, with `{0}`, `{1}` … replaced by the arguments. */
export function t(text: string, ...args: (string | number)[]): string {
  const pattern = Object.hasOwn(translations, text) ? translations[text] : text;
  return pattern.replace(/\{(\d+)\}/g, (whole, index: string) => (Number(index) < args.length ? String(args[Number(index)]) : whole));
}
