/**
 * What stands for the registry's package of Node in tests: tar archives made by hand, entry by entry, and registries on 127.0.0.1.
 */
import { createHash } from "node:crypto";
import http from "node:http";
import type { AddressInfo } from "node:net";
import type { TestContext } from "node:test";
import { gzipSync } from "node:zlib";
import type { RuntimePackage } from "../../src/extension/runtime/runtimePackages.ts";

export interface Entry {
  name: string;
  text?: string;
  type?: string;
  link?: string;
  /** Written into the header instead of the text's length. */
  size?: number;
  prefix?: string;
}

/** One header of 512 bytes and the content, padded. */
export function tarEntry({ name, text = "", type = "0", link = "", size, prefix = "" }: Entry): Buffer {
  const content = Buffer.from(text);
  const header = Buffer.alloc(512);
  header.write(name, 0, 100);
  header.write("0000755\0", 100);
  header.write("0000000\0", 108);
  header.write("0000000\0", 116);
  header.write(`${(size ?? content.length).toString(8).padStart(11, "0")}\0`, 124);
  header.write("00000000000\0", 136);
  header.write("        ", 148);
  header.write(type, 156);
  header.write(link, 157, 100);
  header.write("ustar\x0000", 257);
  header.write(prefix, 345, 155);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return Buffer.concat([header, content, Buffer.alloc((512 - (content.length % 512)) % 512)]);
}

export function tar(entries: readonly Entry[]): Buffer {
  return Buffer.concat([...entries.map(tarEntry), Buffer.alloc(1024)]);
}

/** A script that answers as Node does. */
export const fakeNode = "#!/bin/sh\nprintf 'node 24.1.0'\n";

/** A package as npm packs it, with what is compiled in for it. */
export function packedRuntime(entries: readonly Entry[] = [{ name: "package/bin/node", text: fakeNode }]): { bytes: Buffer; pinned: RuntimePackage } {
  const bytes = gzipSync(tar(entries));
  return { bytes, pinned: { name: "node-test", version: "24.1.0", integrity: integrityOf(bytes), program: "bin/node" } };
}

export function integrityOf(bytes: Buffer): RuntimePackage["integrity"] {
  return `sha512-${createHash("sha512").update(bytes).digest("base64")}`;
}

/** A registry on 127.0.0.1 until the test ends; `asked` are the paths of the requests. */
export async function serve(t: TestContext, handler: http.RequestListener): Promise<{ registry: string; port: number; asked: string[] }> {
  const asked: string[] = [];
  const server = http.createServer((request, response) => {
    asked.push(request.url ?? "");
    handler(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  const { port } = server.address() as AddressInfo;
  return { registry: `http://127.0.0.1:${port}`, port, asked };
}
