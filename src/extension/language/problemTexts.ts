/**
 * What is wrong in a run file or comparison, in the display language. What can be wrong, and the English of it, is `problemWords.ts`'.
 * The rule to keep: the English here is the table's, word for word; a test compares them.
 */
import * as vscode from "vscode";
import { say, type WordKind, type Words } from "../../protocol/problemWords.ts";

/** A problem's sentence, which goes on after its path. */
export function problemMessage({ words }: { words: Words }): string {
  return say(words, problemTexts());
}

/** Every kind of sentence, and of part of one. */
export function problemTexts(): Record<WordKind, string> {
  return {
    mustBe: vscode.l10n.t("must be {0}, not {1}"),
    didYouMean: vscode.l10n.t("{0}; did you mean {1}?"),
    missing: vscode.l10n.t("is missing"),
    unknownKey: vscode.l10n.t("is not a known key"),
    unknownKeyHere: vscode.l10n.t("is not a known key where {0} is {1}"),
    needsName: vscode.l10n.t("needs the key name: {0}"),
    empty: vscode.l10n.t("must not be empty"),
    emptyList: vscode.l10n.t("must not be an empty list"),
    tooManyEntries: vscode.l10n.t("must not have more than {0} entries"),
    namedTwice: vscode.l10n.t("must not name anything twice"),
    wrongLength: vscode.l10n.t("must be a list of {0} entries, not {1}"),
    mappingWithKeys: vscode.l10n.t("must be a mapping with at least the keys {0} and {1}"),
    exclusive: vscode.l10n.t("and {0} exclude each other: give one of them"),
    notAbove: vscode.l10n.t("must not be above {0} ({1})"),
    noMatrix: vscode.l10n.t("is no matrix: use a kind such as {0} or a name such as {1}"),
    searchedKey: vscode.l10n.t("is what a comparison searches: give {0}"),
    variedKey: vscode.l10n.t("is what a comparison varies: give {0}"),
    runFileKey: vscode.l10n.t("is a run file's key: list what is compared under {0}"),
    notAboveLowest: vscode.l10n.t("must not be above the lowest of {0} ({1})"),
    needsTask: vscode.l10n.t("must be loss where there is no task to be accurate in"),
    sameLabel: vscode.l10n.t("is called {0} like {1}: give it another label"),
    notYaml: vscode.l10n.t("is not valid YAML: {0}"),
    tooLarge: vscode.l10n.t("is larger than 1 MiB, which no file of this kind is"),
    or: vscode.l10n.t("{0} or {1}"),
    text: vscode.l10n.t("text"),
    textEndingIn: vscode.l10n.t("text that ends in {0}"),
    list: vscode.l10n.t("a list"),
    mapping: vscode.l10n.t("a mapping"),
    mappingOfKeys: vscode.l10n.t("a mapping of keys"),
    mappingWithName: vscode.l10n.t("a mapping with the key name ({0})"),
    number: vscode.l10n.t("a number"),
    wholeNumber: vscode.l10n.t("a whole number"),
    from: vscode.l10n.t("{0} from {1}"),
    above: vscode.l10n.t("{0} above {1}"),
    atMost: vscode.l10n.t("{0} at most {2}"),
    below: vscode.l10n.t("{0} below {2}"),
    fromAtMost: vscode.l10n.t("{0} from {1} to {2}"),
    fromBelow: vscode.l10n.t("{0} from {1} to below {2}"),
    aboveAtMost: vscode.l10n.t("{0} above {1} and at most {2}"),
    aboveBelow: vscode.l10n.t("{0} above {1} and below {2}"),
  };
}
