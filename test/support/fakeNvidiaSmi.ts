/**
 * A program that stands for nvidia-smi: prints the rounds of a recorded output, streaming, hanging or dying as it is told, and writes down how it was
 * started. It is a shell script, so it is not for Windows.
 */
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";

const fixtures = path.resolve(import.meta.dirname, "../fixtures/nvidia-smi");

/** A recorded output. */
export function recorded(name: string, type: "txt" | "xml" = "txt"): string {
  return readFileSync(path.join(fixtures, `${name}.${type}`), "utf8");
}

export interface FakeOptions {
  /** How a stream behaves: goes on (default), goes on and heeds no request to end, prints nothing at all, or ends after its first round. */
  stream?: "goesOn" | "clings" | "hangs" | "dies";
  /** How a single question is answered: at once (default), never, or by an error. */
  question?: "answers" | "hangs" | "fails";
  /** Seconds between two rounds. */
  everySeconds?: number;
}

export interface FakeTool {
  /** Absolute path, named nvidia-smi. */
  file: string;
  /** How it was started so far, oldest first; `overlap` stands where one ran already. */
  starts(): string[];
  /** Whether the process started last is there. */
  alive(): boolean;
}

/** Writes the program into a folder. */
export function fakeNvidiaSmi(folder: string, output: string, options: FakeOptions = {}): FakeTool {
  const { stream = "goesOn", question = "answers", everySeconds = 0.05 } = options;
  mkdirSync(folder, { recursive: true });
  const [cards, processes] = [path.join(fixtures, `${output}.txt`), path.join(fixtures, `${output}.processes.xml`)];
  const [log, pid] = [path.join(folder, "starts"), path.join(folder, "pid")];
  const rounds = `while IFS= read -r line; do if [ -z "$line" ]; then sleep ${everySeconds}; else printf '%s\\n' "$line"; fi; done < '${cards}'`;
  const goesOn = `while :; do ${rounds}; sleep ${everySeconds}; done`;
  const streams = {
    goesOn,
    clings: `trap '' TERM; ${goesOn}`,
    hangs: "exec sleep 600",
    dies: `${firstRound(cards)}; exit 9`,
  };
  const questions = { answers: firstRound(cards), hangs: "exec sleep 600", fails: `cat '${cards}'; exit 18` };
  const script = `#!/bin/sh
last=$(cat '${pid}' 2>/dev/null)
[ -n "$last" ] && kill -0 "$last" 2>/dev/null && echo overlap >> '${log}'
echo $$ > '${pid}'
echo "$*" >> '${log}'
case "$*" in
  "-q -x") ${existsSync(processes) ? `sed "s/OUR_PID/$PPID/" '${processes}'` : ":"} ;;
  *--loop-ms=*) ${streams[stream]} ;;
  *) ${questions[question]} ;;
esac
`;
  const file = path.join(folder, "nvidia-smi");
  writeFileSync(file, script);
  chmodSync(file, 0o755);
  const read = (name: string) => (existsSync(name) ? readFileSync(name, "utf8") : "");
  return { file, starts: () => read(log).split("\n").filter(Boolean), alive: () => isAlive(Number(read(pid))) };
}

function firstRound(cards: string): string {
  return `while IFS= read -r line && [ -n "$line" ]; do printf '%s\\n' "$line"; done < '${cards}'`;
}

function isAlive(pid: number): boolean {
  try {
    return pid > 0 && process.kill(pid, 0);
  } catch {
    return false;
  }
}
