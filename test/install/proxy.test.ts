/**
 * Which proxy is chosen, and downloads through one: the name is left to the proxy, https stays end to end, credentials reach the proxy and no message.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import net, { type AddressInfo } from "node:net";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { download } from "../../src/install/download.ts";
import { type ProxySettings, proxyFor } from "../../src/install/proxy.ts";
import { temporaryFolder } from "../core/run/smallRuns.ts";
import { serve } from "../support/packedRuntime.ts";

const chosen = (url: string, settings: ProxySettings) => proxyFor(new URL(url), { env: {}, ...settings })?.href ?? null;

test("the setting wins over the environment, exceptions over both", () => {
  const env = { HTTPS_PROXY: "http://env:1", http_proxy: "plain:2" };
  assert.equal(chosen("https://host.test", { proxy: "http://set:3", env }), "http://set:3/");
  assert.equal(chosen("https://host.test", { env }), "http://env:1/");
  assert.equal(chosen("http://host.test", { env }), "http://plain:2/");
  assert.equal(chosen("https://host.test", { env: { all_proxy: "http://all:4" } }), "http://all:4/");
  assert.equal(chosen("https://host.test", { env: {} }), null);
  assert.equal(chosen("https://host.test", { env, off: true }), null);
  for (const local of ["http://127.0.0.1:8", "http://localhost", "http://[::1]:9"]) assert.equal(chosen(local, { proxy: "http://set:3" }), null);
  const excepted = (noProxy: string) => chosen("https://a.host.test:8443", { env: { ...env, NO_PROXY: noProxy } }) === null;
  for (const yes of ["*", "host.test", ".host.test", "*.host.test", "x, a.host.test:8443", "HOST.test"]) assert.ok(excepted(yes), yes);
  for (const no of ["", "ost.test", "b.host.test", "a.host.test:443", "other"]) assert.ok(!excepted(no), no);
  assert.equal(chosen("https://host.test", { env, noProxy: ["host.test"] }), null);
  assert.throws(
    () => chosen("https://host.test", { proxy: "socks5://me:secret@p:1" }),
    (error: Error & { code?: string }) => {
      assert.equal(error.code, "download/bad-proxy");
      return !error.message.includes("secret");
    },
  );
});

/** A proxy that tunnels every name to one port of 127.0.0.1, or answers with a status. */
async function startProxy(t: TestContext, port: number, status = 200) {
  const asked: string[] = [];
  const sockets = new Set<net.Socket>();
  const server = http.createServer((_, response) => response.writeHead(500).end());
  server.on("connection", (socket: net.Socket) => sockets.add(socket));
  server.on("connect", (request, socket: net.Socket) => {
    asked.push(`${request.url} ${request.headers["proxy-authorization"] ?? ""}`.trim());
    socket.on("error", () => undefined);
    if (status !== 200) return void socket.end(`HTTP/1.1 ${status} No\r\n\r\n`);
    const onward = net.connect(port, "127.0.0.1", () => {
      socket.write("HTTP/1.1 200 Connection established\r\nX-A: b\r\n\r\n");
      socket.pipe(onward).pipe(socket);
    });
    sockets.add(onward.on("error", () => socket.destroy()));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return { address: `127.0.0.1:${(server.address() as AddressInfo).port}`, asked };
}

async function fetched(url: string, proxy: ProxySettings, signal = new AbortController().signal): Promise<string> {
  const { pieces } = await download(new URL(url), { proxy: { env: {}, ...proxy }, signal, maxBytes: 1 << 20, idleMs: 5000 });
  const taken: Buffer[] = [];
  for await (const piece of pieces) taken.push(piece);
  return Buffer.concat(taken).toString();
}

test("a file comes through a tunnel, with the credentials of the address or of the settings", async (t) => {
  const { port } = await serve(t, ({ headers }, response) => response.end(`hello ${headers.host}`));
  const { address, asked } = await startProxy(t, port);
  assert.equal(await fetched("http://host.test/a", { proxy: `http://me:s%40cret@${address}` }), "hello host.test");
  assert.equal(await fetched("http://host.test:81/a", { proxy: address, authorization: "Bearer x\r\nEvil: y" }), "hello host.test:81");
  assert.equal(await fetched("http://host.test/a", { env: { HTTP_PROXY: address } }), "hello host.test");
  assert.deepEqual(asked, [`host.test:80 Basic ${Buffer.from("me:s@cret").toString("base64")}`, "host.test:81 Bearer xEvil: y", "host.test:80"]);
});

test("a proxy that refuses, is none, is not there or says nothing is named without its credentials", async (t) => {
  const denied = await startProxy(t, 1, 407);
  const broken = await startProxy(t, 1, 502);
  const noProxy = net.createServer((socket) => socket.end("what?\r\n\r\n"));
  const mute = net.createServer((socket) => socket.on("error", () => undefined));
  const ports: number[] = [];
  for (const server of [noProxy, mute]) {
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    server.unref();
    t.after(() => server.close());
    ports.push((server.address() as AddressInfo).port);
  }
  const cases: [string, RegExp][] = [
    [denied.address, /through the proxy http:\/\/[\d.:]+: the proxy asks for credentials/],
    [broken.address, /the proxy answered 502/],
    [`127.0.0.1:${ports[0]}`, /does not answer as one/],
    ["127.0.0.1:1", /ECONNREFUSED/],
  ];
  for (const [address, message] of cases)
    await assert.rejects(fetched("http://host.test/a", { proxy: `http://me:secret@${address}` }), (error: Error & { code?: string }) => {
      assert.equal(error.code, "download/unreachable");
      assert.match(error.message, message);
      return !error.message.includes("secret");
    });
  const controller = new AbortController();
  mute.once("connection", () => controller.abort());
  await assert.rejects(fetched("http://host.test/a", { proxy: `127.0.0.1:${ports[1]}` }, controller.signal), { name: "AbortError" });
});

test("https through a proxy is checked end to end, unless the settings say not to", async (t) => {
  const folder = temporaryFolder(t);
  const [key, certificate] = ["key.pem", "certificate.pem"].map((name) => path.join(folder, name));
  const request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=host.test"];
  if (spawnSync("openssl", [...request, "-keyout", key, "-out", certificate]).status !== 0) return t.skip("not run: openssl makes the certificate");
  const server = https.createServer({ key: readFileSync(key), cert: readFileSync(certificate) }, (_, response) => response.end("protected"));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  const { address, asked } = await startProxy(t, (server.address() as AddressInfo).port);
  await assert.rejects(fetched("https://host.test/a", { proxy: address }), { code: "download/unreachable", message: /self-signed certificate/ });
  assert.equal(await fetched("https://host.test/a", { proxy: address, strictSSL: false }), "protected");
  assert.deepEqual(asked, ["host.test:443", "host.test:443"]);
});
