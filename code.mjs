/**
 * `npm run code`: builds and packages the extension and opens it in VS Code's web workbench on 127.0.0.1, for who has no desktop VS Code at hand. This file
 * only finds the Node that runs TypeScript; the work is test/e2e/code.ts. Plain JavaScript for Node ≥ 20.
 */
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { developmentNode } from "./test/developmentNode.mjs";

try {
  const script = fileURLToPath(new URL("test/e2e/code.ts", import.meta.url));
  const child = spawn(developmentNode(), [script, ...process.argv.slice(2)], { stdio: "inherit" });
  // Ctrl-C reaches both: the child ends, and this process with it.
  process.on("SIGINT", () => {});
  process.on("SIGTERM", () => child.kill("SIGTERM"));
  child.on("exit", (code) => (process.exitCode = code ?? 1));
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
