/** `sparse-tuner init`: a model folder with seeded random weights, for benchmarks and tests of size. */
import type { FileDType } from "../devices/device.ts";
import { initModel } from "../files/initModel.ts";
import type { InitOptions } from "./options.ts";

/** Returns the exit code. Throws UserError where the configuration is none of ours or the folder holds something. */
export async function init({ configFile, to, dtype, seed }: InitOptions): Promise<number> {
  await initModel(configFile, to, { dtype: dtype.toUpperCase() as FileDType, seed });
  process.stdout.write(`A random ${dtype} model stands in ${to}.\n`);
  return 0;
}
