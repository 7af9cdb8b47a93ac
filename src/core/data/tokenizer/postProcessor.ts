/** The post-processor of a tokenizer.json: the ids it puts before and after one text. Pairs of texts are not used here. */
import { type Component, invalidTokenizer, isObject, parseComponent, unsupportedTokenizer } from "./tokenizerFile.ts";

export interface SpecialIds {
  prefixIds: number[];
  suffixIds: number[];
}

/** Throws UserError `tokenizer/unsupported` for a type not listed here. */
export function parsePostProcessor(component: Component | null, path: string): SpecialIds {
  if (component === null || component.type === "ByteLevel") return { prefixIds: [], suffixIds: [] };
  if (component.type === "Sequence" && Array.isArray(component.processors)) {
    const parts = component.processors.map((part) => parsePostProcessor(parseComponent(part, "post_processor", path), path));
    return { prefixIds: parts.toReversed().flatMap(({ prefixIds }) => prefixIds), suffixIds: parts.flatMap(({ suffixIds }) => suffixIds) };
  }
  if (component.type !== "TemplateProcessing") throw unsupportedTokenizer(path, `the post-processor ${component.type}`);
  if (!Array.isArray(component.single) || !isObject(component.special_tokens))
    throw invalidTokenizer(path, "the post-processor TemplateProcessing is incomplete");
  const prefixIds: number[] = [];
  const suffixIds: number[] = [];
  let target = prefixIds;
  for (const part of component.single) {
    if (isObject(part) && isObject(part.Sequence)) target = suffixIds;
    else if (isObject(part) && isObject(part.SpecialToken)) target.push(...specialIds(component.special_tokens[String(part.SpecialToken.id)], path));
    else throw invalidTokenizer(path, "the post-processor's template has an unknown part");
  }
  return { prefixIds, suffixIds };
}

function specialIds(token: unknown, path: string): number[] {
  if (!isObject(token) || !Array.isArray(token.ids) || !token.ids.every((id) => Number.isInteger(id))) {
    throw invalidTokenizer(path, "the post-processor uses a special token it does not define");
  }
  return token.ids as number[];
}
