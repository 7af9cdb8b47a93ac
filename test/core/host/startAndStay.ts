/** Started by lifetime.test.ts in the place of an extension host: starts a core, says which, and stays until it is killed. */
import { startCore } from "../../../src/extension/startCore.ts";

const [node, core, runFolder] = process.argv.slice(2);
const { record } = await startCore({ node, core, runFolder, resume: false });
process.stdout.write(`${JSON.stringify(record)}\n`);
setInterval(() => {}, 1000);
