/**
 * A chat template (Jinja, as in tokenizer_config.json) and where in its output the assistant speaks.
 * It makes no ids. The rule to keep: a template is data from outside: it runs in an interpreter with a time and a size limit, a fixed date, and
 * nothing else in reach; spans are exact — where they cannot be found exactly, the row is.
 */
import { Environment, Interpreter, parse, tokenize } from "@huggingface/jinja";
import { UserError } from "../../protocol/userError.ts";
import type { Message } from "./rowFormats.ts";
import { withinTime } from "./withinTime.ts";

/** Names a template may use besides `messages` and `add_generation_prompt`. */
export interface TemplateTokens {
  bos_token: string;
  eos_token: string;
  pad_token: string;
  unk_token: string;
}

/** A stretch of the rendered text. */
export interface Segment {
  text: string;
  /** Said by the assistant, the end-of-turn token included. */
  response: boolean;
}

/** A reason why one conversation cannot be rendered; the row is bad, not the template. */
export class RenderProblem extends Error {
  override readonly name = "RenderProblem";
}

const renderLimitMs = 2000;
const longestRange = 100_000;
const longestText = 16_000_000;
/** Templates that print the date get the one Llama 3 falls back to: a run must come out the same tomorrow. */
const fixedDate: Record<string, string> = { "%Y": "2024", "%m": "07", "%d": "26", "%b": "Jul", "%B": "July", "%H": "00", "%M": "00" };

export class ChatTemplate {
  readonly #program: ReturnType<typeof parse>;
  readonly #tokens: TemplateTokens;
  /** Texts that end a turn: special tokens, longest first. */
  readonly #endings: readonly string[];

  /** `name` says in errors where the template came from. Throws UserError `template/invalid`. */
  constructor(source: string, tokens: TemplateTokens, specialTexts: readonly string[], name: string) {
    try {
      this.#program = parse(tokenize(source, { lstrip_blocks: true, trim_blocks: true }));
    } catch (error) {
      throw new UserError("template/invalid", `The chat template of ${name} cannot be read: ${reason(error)}.`, "Correct it, or set data.template.", {
        cause: error,
      });
    }
    this.#tokens = tokens;
    this.#endings = specialTexts.toSorted((a, b) => b.length - a.length);
  }

  /** The text of a conversation. Throws {@link RenderProblem}, or UserError `template/slow`. */
  render(messages: readonly Message[], addGenerationPrompt = false): string {
    const rendered = withinTime(renderLimitMs, () => {
      try {
        return { text: this.#run(messages, addGenerationPrompt) };
      } catch (error) {
        return { problem: reason(error) };
      }
    });
    if (rendered === null)
      throw new UserError("template/slow", `The chat template needs more than ${renderLimitMs / 1000} s for one row.`, "Use a simpler template.");
    if ("problem" in rendered.value) throw new RenderProblem(`the chat template refuses it: ${rendered.value.problem}`);
    if (rendered.value.text.length > longestText) throw new RenderProblem("the chat template makes more than 16 million characters of it");
    return rendered.value.text;
  }

  #run(messages: readonly Message[], addGenerationPrompt: boolean): string {
    const environment = new Environment();
    const globals: Record<string, unknown> = {
      ...{ true: true, false: false, none: null, True: true, False: false, None: null },
      ...this.#tokens,
      messages: messages.map(({ role, content }) => ({ role, content })),
      add_generation_prompt: addGenerationPrompt,
      raise_exception: (message: unknown) => {
        throw new Error(String(message));
      },
      range: boundedRange,
      strftime_now: (format: string) => format.replace(/%[YmdbBHM]/g, (part) => fixedDate[part]),
    };
    for (const [name, value] of Object.entries(globals)) environment.set(name, value);
    return String(new Interpreter(environment).run(this.#program).value);
  }

  /**
   * The rendered conversation, cut where the assistant begins and ends. The beginning of a conversation with the generation prompt, and the same
   * with the answer, must be beginnings of the whole; where a template rewrites earlier turns (Qwen3 drops their thoughts) the answers are found
   * by rendering with stand-ins. Throws RenderProblem, also when neither way is exact.
   */
  segments(messages: readonly Message[]): Segment[] {
    const whole = this.render(messages);
    const spans = this.#spansByPrefix(messages, whole) ?? this.#spansByStandIn(messages, whole);
    if (spans === null) throw new RenderProblem("the chat template changes what the assistant says, so its words cannot be told from the prompt's");
    const segments: Segment[] = [];
    let done = 0;
    for (const [start, end] of spans) {
      segments.push({ text: whole.slice(done, start), response: false }, { text: whole.slice(start, end), response: true });
      done = end;
    }
    segments.push({ text: whole.slice(done), response: false });
    return segments.filter(({ text }) => text !== "");
  }

  #spansByPrefix(messages: readonly Message[], whole: string): Array<[number, number]> | null {
    const spans: Array<[number, number]> = [];
    for (const [index, message] of messages.entries()) {
      if (message.role !== "assistant") continue;
      // A conversation that begins with the assistant has no prompt to render.
      const before = index === 0 ? "" : this.#tryRender(messages.slice(0, index), true);
      const upTo = this.#tryRender(messages.slice(0, index + 1), false);
      if (before === null || upTo === null || !whole.startsWith(before) || !whole.startsWith(upTo)) return null;
      const words = message.content.trim();
      const place = whole.indexOf(words, before.length);
      if (place < 0 || place + words.length > upTo.length) return null;
      const end = place + words.length;
      spans.push([before.length, this.#ending(whole, end, upTo.length) ?? upTo.length]);
    }
    return spans;
  }

  #tryRender(messages: readonly Message[], addGenerationPrompt: boolean): string | null {
    try {
      return this.render(messages, addGenerationPrompt);
    } catch (error) {
      if (error instanceof RenderProblem) return null;
      throw error;
    }
  }

  /** Answers are replaced by private characters; putting them back, trimmed or not, must give the whole again. */
  #spansByStandIn(messages: readonly Message[], whole: string): Array<[number, number]> | null {
    const standIn = (index: number): string => `\ue000${index}\ue001`;
    const replaced = messages.map((message, index) => (message.role === "assistant" ? { ...message, content: standIn(index) } : message));
    const literal = this.#tryRender(replaced, false);
    if (literal === null) return null;
    for (const restore of [(text: string) => text, (text: string) => text.trim()]) {
      const parts = literal.split(/\ue000(\d+)\ue001/);
      const spans: Array<[number, number]> = [];
      let text = parts[0];
      for (let part = 1; part < parts.length; part += 2) {
        const start = text.length;
        text += restore(messages[Number(parts[part])].content);
        const end = text.length;
        text += parts[part + 1];
        // A space before the answer belongs to its first token.
        spans.push([whole[start - 1] === " " ? start - 1 : start, this.#ending(whole, end, text.length) ?? end]);
      }
      if (text === whole && spans.length === messages.filter(({ role }) => role === "assistant").length) return spans;
    }
    return null;
  }

  /** Where the special token ends that follows words ending at `from`; null when none follows before `limit`. */
  #ending(whole: string, from: number, limit: number): number | null {
    const tail = whole.slice(from, limit);
    const skipped = tail.length - tail.trimStart().length;
    const ending = this.#endings.find((text) => tail.startsWith(text, skipped));
    return ending === undefined ? null : from + skipped + ending.length;
  }
}

function boundedRange(start: number, stop?: number, step = 1): number[] {
  const [from, to] = stop === undefined ? [0, start] : [start, stop];
  const length = Math.max(0, Math.ceil((to - from) / step));
  if (!(length <= longestRange)) throw new Error("range() is too long");
  return Array.from({ length }, (_, index) => from + index * step);
}

function reason(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).slice(0, 200);
}
