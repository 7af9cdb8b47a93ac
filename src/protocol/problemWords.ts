/**
 * What can be wrong in a file that people write, as kinds of sentences with what stands in them, so that a window says them in its language and everything
 * else in English. It finds nothing wrong itself; a sentence goes on after the key it is about: `train.steps` + "must be a whole number, not x".
 * The rule to keep: names, numbers and quoted values are given; every other word is in the table.
 */

/** English by kind; `{0}` is what is given first. */
export const englishWords = {
  mustBe: "must be {0}, not {1}",
  didYouMean: "{0}; did you mean {1}?",
  missing: "is missing",
  unknownKey: "is not a known key",
  unknownKeyHere: "is not a known key where {0} is {1}",
  needsName: "needs the key name: {0}",
  empty: "must not be empty",
  emptyList: "must not be an empty list",
  tooManyEntries: "must not have more than {0} entries",
  namedTwice: "must not name anything twice",
  wrongLength: "must be a list of {0} entries, not {1}",
  mappingWithKeys: "must be a mapping with at least the keys {0} and {1}",
  exclusive: "and {0} exclude each other: give one of them",
  notAbove: "must not be above {0} ({1})",
  noMatrix: "is no matrix: use a kind such as {0} or a name such as {1}",
  searchedKey: "is what a comparison searches: give {0}",
  variedKey: "is what a comparison varies: give {0}",
  runFileKey: "is a run file's key: list what is compared under {0}",
  notAboveLowest: "must not be above the lowest of {0} ({1})",
  needsTask: "must be loss where there is no task to be accurate in",
  sameLabel: "is called {0} like {1}: give it another label",
  notYaml: "is not valid YAML: {0}",
  tooLarge: "is larger than 1 MiB, which no file of this kind is",
  // What a value must be, or is.
  or: "{0} or {1}",
  text: "text",
  textEndingIn: "text that ends in {0}",
  list: "a list",
  mapping: "a mapping",
  mappingOfKeys: "a mapping of keys",
  mappingWithName: "a mapping with the key name ({0})",
  number: "a number",
  wholeNumber: "a whole number",
  from: "{0} from {1}",
  above: "{0} above {1}",
  atMost: "{0} at most {2}",
  below: "{0} below {2}",
  fromAtMost: "{0} from {1} to {2}",
  fromBelow: "{0} from {1} to below {2}",
  aboveAtMost: "{0} above {1} and at most {2}",
  aboveBelow: "{0} above {1} and below {2}",
} as const;

export type WordKind = keyof typeof englishWords;

/** A sentence, or a part of one. */
export interface Words {
  kind: WordKind;
  given: readonly Word[];
}

/** Names, numbers and quoted values are the same in every language. */
export type Word = string | number | Words;

export function words(kind: WordKind, ...given: Word[]): Words {
  return { kind, given };
}

/** A choice of two or more. */
export function either(choices: readonly Word[]): Word {
  if (choices.every((choice) => typeof choice === "string") && choices.length > 2)
    return words("or", choices.slice(0, -1).join(", "), choices.at(-1) as Word);
  return choices.length === 0 ? "" : choices.slice(1).reduce((all, choice) => words("or", all, choice), choices[0]);
}

/** In the language of a table. */
export function say(word: Word, table: Readonly<Record<WordKind, string>> = englishWords): string {
  if (typeof word !== "object") return String(word);
  return table[word.kind].replace(/\{(\d)\}/g, (_, index) => say(word.given[Number(index)] ?? "", table));
}
