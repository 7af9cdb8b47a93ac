/** Whatever a connection sends, only that connection ends: the core's memory stays bounded and the run goes on. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import net from "node:net";
import { test } from "node:test";
import { Random } from "../../../src/core/random.ts";
import { hostToCoreLimits, protocolVersion } from "../../../src/protocol/coreProtocol.ts";
import { encodeFrame } from "../../../src/protocol/frames.ts";
import type { LiveRunRecord } from "../../../src/protocol/liveRun.ts";
import { temporaryFolder } from "../run/smallRuns.ts";
import { newRun, running, until, WatchingHost } from "./runningCore.ts";

/** Sends bytes and waits for the core to close; what it answered until then. */
function sendAndSeeClosed({ socket }: LiveRunRecord, ...parts: Uint8Array[]): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const answer: Buffer[] = [];
    const connection = net.connect(socket);
    const timer = setTimeout(() => reject(new Error("the core kept the connection")), 12_000);
    connection.on("data", (bytes) => answer.push(bytes));
    connection.on("error", () => {}); // reset by the core
    connection.on("close", () => {
      clearTimeout(timer);
      resolve(Buffer.concat(answer));
    });
    for (const part of parts) connection.write(part);
  });
}

const message = (method: string, params: object, id: number = 1) => encodeFrame({ jsonrpc: "2.0", id, method, params });

function randomBytes(random: Random, length: number): Uint8Array {
  return Uint8Array.from({ length }, () => random.below(256));
}

test("garbage, frames too large, requests before hello and wrong attachments end their connection and nothing else", async (t) => {
  const record = await running(t, await newRun(temporaryFolder(t)));
  const host = await WatchingHost.attach(t, record);
  await host.seen(({ kind }) => kind === "step");
  const hello = message("hello", { version: protocolVersion, nonce: record.nonce, client: "fuzz" });
  const tooLarge = encodeFrame({ jsonrpc: "2.0" });
  new DataView(tooLarge.buffer).setUint32(8, hostToCoreLimits.headerBytes + 1, true);
  const otherVersion = encodeFrame({ jsonrpc: "2.0" });
  new DataView(otherVersion.buffer).setUint32(4, 2, true);
  const cases: Record<string, Uint8Array[]> = {
    "an HTTP request": [Buffer.from("GET / HTTP/1.1\r\nHost: x\r\n\r\n")],
    zeros: [new Uint8Array(4096)],
    "a header too large": [tooLarge],
    "frames of another version": [otherVersion],
    "a payload": [encodeFrame({ jsonrpc: "2.0", id: 1, method: "status", params: {} }, new Uint8Array(8))],
    "a header that is no JSON": [encodeFrame({ a: 1 }).map((byte, i) => (i === 16 ? 0xff : byte))],
    "a header that is a list": [encodeFrame([1, 2])],
    "a frame of no kind": [encodeFrame({ kind: "other" })],
    "an unknown attachment": [encodeFrame({ kind: "attach", attachment: "11111111-2222-3333-4444-555555555555" })],
    "an attachment on a greeted connection": [hello, encodeFrame({ kind: "attach", attachment: host.client.hello.attachment })],
    "a request before hello": [message("stop", { id: "early" })],
    "a hello with a wrong nonce": [message("hello", { version: protocolVersion, nonce: "wrong-wrong", client: "x" })],
    "a frame on the bulk connection": [encodeFrame({ kind: "attach", attachment: host.client.hello.attachment }), encodeFrame({ kind: "more" })],
  };
  await Promise.all(
    Object.entries(cases).map(async ([name, parts]) => {
      const answer = await sendAndSeeClosed(record, ...parts).catch((error) => assert.fail(`${name}: ${error.message}`));
      assert.ok(answer.length < 1000, `${name}: ${answer.length} bytes came back`);
    }),
  );
  const steps = host.steps;
  await until(() => host.steps > steps);
  assert.equal((await host.client.status()).state, "running");
  assert.ok(!host.events.some(({ kind }) => kind === "command"), "nothing was commanded");
  host.assertGapless();
});

test("messages with wrong parameters are answered with an error and change nothing", async (t) => {
  const record = await running(t, await newRun(temporaryFolder(t)));
  const host = await WatchingHost.attach(t, record);
  const { client } = host;
  const wrong = { code: "core/refused", message: /do not fit/ };
  await assert.rejects(client.command("stop", ""), wrong);
  await assert.rejects(client.command("stop", "x".repeat(81)), wrong);
  await assert.rejects(client.command("stop", 7 as never), wrong);
  await assert.rejects(client.readBlock({ name: "a", row: -1, column: 0, part: "weight" }), wrong);
  await assert.rejects(client.readBlock({ name: "a", row: 0, column: 0, part: "everything" as never }), wrong);
  await assert.rejects(client.watchHeatmap("yes" as never), wrong);
  await assert.rejects(client.follow(0), { code: "core/refused", message: /follows already/ });
  await host.seen(({ kind }) => kind === "step");
  assert.equal((await client.status()).state, "running");
});

test("20,000 random frames and torn streams leave the run and the core's memory as they are", async (t) => {
  const record = await running(t, await newRun(temporaryFolder(t)));
  const host = await WatchingHost.attach(t, record);
  await host.seen(({ kind }) => kind === "step");
  const rss = () => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${record.pid}/status`, "utf8"))?.[1] ?? 0) / 1024;
  const before = process.platform === "linux" ? rss() : 0;
  const random = new Random(7);
  const methods = ["hello", "stop", "pause", "follow", "readBlock", "nothing", "__proto__", "constructor"];
  for (let connection = 0; connection < 40; connection++) {
    const parts: Uint8Array[] = [];
    for (let i = 0; i < 500; i++) {
      const frame = message(methods[random.below(methods.length)], { [String.fromCharCode(97 + random.below(26))]: random.below(1e9) }, i);
      if (random.below(400) === 0) frame[random.below(frame.length)] ^= 1 << random.below(8);
      parts.push(frame);
    }
    await sendAndSeeClosed(record, Buffer.concat(parts), randomBytes(random, 64));
  }
  const steps = host.steps;
  await until(() => host.steps > steps);
  assert.ok(!host.events.some(({ kind }) => kind === "command" || kind === "stopped"));
  host.assertGapless();
  if (process.platform === "linux") assert.ok(rss() < before + 100, `${before} MiB before, ${rss()} MiB after`);
});
