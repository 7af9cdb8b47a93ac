/** Requests to the host, each with its one answer. */
import type { FromInspector, ToInspector } from "../../src/protocol/inspectorProtocol.ts";
import { send } from "../host.ts";

type Asked = Extract<FromInspector, { request: number }>;
/** A request without its number, which is given here. */
export type Question = { [Kind in Asked["kind"]]: Omit<Extract<Asked, { kind: Kind }>, "request"> }[Asked["kind"]];
export type Answer = Extract<ToInspector, { request: number }>;

const waiting = new Map<number, (answer: Answer) => void>();
let last = 0;

/** Resolves with the host's answer, which may be that there is none (`missing`). */
export function ask(question: Question): Promise<Answer> {
  const request = ++last;
  return new Promise((resolve) => {
    waiting.set(request, resolve);
    send({ ...question, request });
  });
}

/** Gives an answer to who waits for it. */
export function answered(answer: Answer): void {
  waiting.get(answer.request)?.(answer);
  waiting.delete(answer.request);
}
