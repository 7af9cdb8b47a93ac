/** Which line of a failed program is told: recorded forms of npm's, Node's and node-pre-gyp's outputs. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { failedProgram, reasonIn } from "../../src/install/installFailure.ts";

const said: [string, string[], string][] = [
  [
    "an unknown host, told by the script through npm",
    [
      "* Downloading libtensorflow",
      "npm error code 1",
      "npm error path /storage/engine/node_modules/@tensorflow/tfjs-node-gpu",
      "npm error command failed",
      "npm error command sh -c node scripts/install.js gpu download",
      "npm error node:events:497",
      "npm error Error: getaddrinfo ENOTFOUND storage.example",
      "npm error     at GetAddrInfoReqWrap.onlookupall [as oncomplete] (node:dns:120:26)",
      "npm error Emitted 'error' event on ClientRequest instance at:",
      "npm error A complete log of this run can be found in: /home/u/.npm/_logs/x-debug-0.log",
    ],
    "Error: getaddrinfo ENOTFOUND storage.example",
  ],
  [
    "a package that the registry has not",
    [
      "npm error code E404",
      "npm error 404 Not Found - GET http://127.0.0.1:9/adm-zip - not found",
      "npm error 404  The requested resource could not be found",
    ],
    "404 Not Found - GET http://127.0.0.1:9/adm-zip - not found",
  ],
  [
    "a binding that is not kept for this machine",
    [
      "node-pre-gyp info install unpacking",
      "node-pre-gyp WARN Hit error response status 404 Not Found on http://127.0.0.1:9/GPU-linux-4.22.0.tar.gz ",
      "node-pre-gyp install failed with error: Error: Command failed: node-pre-gyp install --fallback-to-build",
    ],
    "node-pre-gyp WARN Hit error response status 404 Not Found on http://127.0.0.1:9/GPU-linux-4.22.0.tar.gz",
  ],
  [
    "a library that is missing",
    ["node:internal/modules", "Error: libcudnn.so.8: cannot open shared object file", "    at Object.<anonymous> (/x.js:1:1)"],
    "Error: libcudnn.so.8: cannot open shared object file",
  ],
  ["an unsupported machine", ["Error: Unsupported system: gpu-freebsd-x64", "Node.js v24.1.0"], "Error: Unsupported system: gpu-freebsd-x64"],
  ["no reason that is known", ["one", "npm error two."], "two"],
  ["nothing", [], "it said nothing"],
];

for (const [name, lines, reason] of said) test(`${name}: ${reason}`, () => assert.equal(reasonIn(lines), reason));

test("what a person is told ends with what to do", () => {
  const { message, action, code } = failedProgram("npm", ["npm error Error: x ECONNREFUSED 127.0.0.1:1"]);
  assert.deepEqual([code, message], ["tensorflow/install-failed", "npm failed: Error: x ECONNREFUSED 127.0.0.1:1."]);
  assert.match(action, /TFJS_NODE_CDN_STORAGE.*HTTPS_PROXY.*unchanged/);
});
