/** Imported for its effect, before anything that imports `vscode`: from then on that name means the stand-in. */
import { registerHooks } from "node:module";

registerHooks({
  resolve: (specifier, context, next) =>
    specifier === "vscode" ? { url: new URL("./vscodeStandIn.ts", import.meta.url).href, shortCircuit: true } : next(specifier, context),
});
