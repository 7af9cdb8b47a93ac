/** `npm run schema`: writes media/run.schema.json from the schema the product validates with. A test fails when the file is stale. */
import { writeFileSync } from "node:fs";
import path from "node:path";
import { runJsonSchema } from "../../src/protocol/runSchema.ts";

writeFileSync(path.resolve(import.meta.dirname, "../../media/run.schema.json"), `${JSON.stringify(runJsonSchema(), null, 2)}\n`);
