/**
 * What stands for @tensorflow/tfjs-node-gpu in tests: packages of its form with their lock, a registry and a storage host on 127.0.0.1. As the real one, its
 * install script takes an archive from the storage host without looking at the answer, and calls a program of another package by its bare name; and its product
 * calls a function that Node 23 took away.
 */
import type http from "node:http";
import type { TestContext } from "node:test";
import { gzipSync } from "node:zlib";
import type { EngineLock } from "../../src/install/engineLock.ts";
import { type Entry, integrityOf, serve, tar } from "./packedRuntime.ts";

const installScript = `
const fs = require("fs"), http = require("http"), cp = require("child_process"), zlib = require("zlib"), path = require("path");
const deps = path.join(__dirname, "..", "deps");
fs.rmSync(deps, { recursive: true, force: true });
fs.mkdirSync(path.join(deps, "lib"), { recursive: true });
console.warn("* Downloading libtensorflow");
const uri = process.env.TFJS_NODE_CDN_STORAGE + "tensorflow/libtensorflow/libtensorflow-gpu.gz";
http.get(uri, (response) => response.pipe(zlib.createGunzip()).pipe(fs.createWriteStream(path.join(deps, "lib", "library"))).on("close", () => {
  cp.exec("stand-in-place install", (error) => {
    if (error) { console.log("stand-in-place install failed with error: " + error); process.exit(1); }
  });
}));
`;

const placeProgram = `#!/usr/bin/env node
const fs = require("fs"), http = require("http");
const uri = process.env.npm_config_tfjs_binding_binary_host_mirror + "/binding";
http.get(uri, (response) => {
  if (response.statusCode !== 200) throw new Error("response status " + response.statusCode + " on " + uri);
  fs.mkdirSync("lib/napi-v8", { recursive: true });
  response.pipe(fs.createWriteStream("lib/napi-v8/binding"));
});
`;

const engineCode = `
const fs = require("fs"), path = require("path");
const read = (...names) => fs.readFileSync(path.join(__dirname, ...names), "utf8").trim();
const [library, binding] = [read("deps", "lib", "library"), read("lib", "napi-v8", "binding")];
if (library === "broken") throw new Error("libcudnn.so.8: cannot open shared object file");
module.exports = {
  ready: async () => {}, getBackend: () => "tensorflow", backend: () => ({ isUsingGpuDevice: binding === "card" }),
  ones: (shape) => shape,
  matMul: (a, b) => ({ dataSync: () => (require("util").isNullOrUndefined(null) ? [a[1]] : []) }),
};
`;

interface StandIn {
  name: string;
  version: string;
  manifest: object;
  entries: Entry[];
}

const packages: StandIn[] = [
  {
    name: "@tensorflow/tfjs-node-gpu",
    version: "4.22.0",
    manifest: { main: "index.js", scripts: { install: "node scripts/install.js gpu download" }, dependencies: { "stand-in-place": "1.0.0" } },
    entries: [
      { name: "package/index.js", text: engineCode },
      { name: "package/scripts/install.js", text: installScript },
    ],
  },
  {
    name: "stand-in-place",
    version: "1.0.0",
    manifest: { bin: { "stand-in-place": "place.js" } },
    entries: [{ name: "other/place.js", text: placeProgram }],
  },
];

/** The packages as a registry keeps them, by name. */
function packed({ name, version, manifest, entries }: StandIn) {
  const root = entries[0].name.split("/")[0];
  const whole = { name, version, ...manifest };
  const bytes = gzipSync(tar([{ name: `${root}/package.json`, text: JSON.stringify(whole) }, ...entries]));
  return { name, version, manifest: whole, bytes, integrity: integrityOf(bytes), file: `/${name}/-/${name.replace(/^.*\//, "")}-${version}.tgz` };
}

/** Their lock, as npm writes it. */
export function standInLock(): EngineLock {
  const placed = packages
    .map(packed)
    .map(({ name, integrity, manifest }) => [`node_modules/${name}`, { integrity, hasInstallScript: "scripts" in manifest, ...manifest }]);
  const own = { name: "tensorflow-engine", version: "0.0.0", dependencies: { "@tensorflow/tfjs-node-gpu": "4.22.0" } };
  return {
    name: "tensorflow-engine",
    version: "0.0.0",
    lockfileVersion: 3,
    requires: true,
    packages: { "": own, ...Object.fromEntries(placed) },
  };
}

/** A registry that keeps them; `answer` may answer a request itself and say so. */
export async function standInRegistry(t: TestContext, answer: (url: string, response: http.ServerResponse) => boolean = () => false) {
  const kept = packages.map(packed);
  const served = await serve(t, (request, response) => {
    const url = decodeURIComponent(request.url ?? "");
    if (answer(url, response)) return;
    const file = kept.find((one) => one.file === url);
    if (file) return void response.end(file.bytes);
    const named = kept.find(({ name }) => `/${name}` === url);
    if (!named) return void response.writeHead(404).end("{}");
    const { name, version, manifest, integrity } = named;
    const dist = { integrity, tarball: `${served.registry}${named.file}` };
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify({ name, "dist-tags": { latest: version }, versions: { [version]: { ...manifest, dist } } }));
  });
  return served;
}

/** A storage host: the library's text, and whether the binding finds a card. */
export async function standInStorage(
  t: TestContext,
  { library = "library", binding = "processor", answer = (_url: string, _response: http.ServerResponse): boolean => false } = {},
) {
  return serve(t, (request, response) => {
    const url = request.url ?? "";
    if (answer(url, response)) return;
    if (url === "/mirror/tensorflow/libtensorflow/libtensorflow-gpu.gz") response.end(gzipSync(library));
    else if (url === "/mirror/tf-builds/pre-built-binary/binding") response.end(binding);
    else response.writeHead(404).end("<html>Not Found</html>");
  });
}
