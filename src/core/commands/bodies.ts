/** Where each command's body is. Loaded when it is called, so that `--help` and the other commands do not pay for it. */
import type { CommandBody, CommandName } from "./options.ts";

export const bodies: { [Name in CommandName]: () => Promise<CommandBody<Name>> } = {
  train: async () => (await import("./train.ts")).train,
  resume: async () => (await import("./train.ts")).resume,
  plan: async () => (await import("./plan.ts")).plan,
  preview: async () => (await import("./preview.ts")).preview,
  compare: async () => (await import("./compare.ts")).compare,
  inspect: async () => (await import("./inspect.ts")).inspect,
  evaluate: async () => (await import("./evaluate.ts")).evaluate,
  generate: async () => (await import("./generate.ts")).generate,
  export: async () => (await import("./export.ts")).exportRun,
  apply: async () => (await import("./export.ts")).apply,
  undo: async () => (await import("./export.ts")).undo,
  prune: async () => (await import("./prune.ts")).prune,
  init: async () => (await import("./init.ts")).init,
  bench: async () => (await import("./bench.ts")).bench,
  doctor: async () => (await import("./doctor.ts")).doctor,
  demo: async () => (await import("./demo.ts")).demo,
};
