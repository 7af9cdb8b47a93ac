/**
 * Enters this process into the user's register of live runs and comparisons and takes it out again; records of processes that are gone are swept on the way.
 * What a record says and where it lies is in protocol/liveRun.ts. The rule to keep: a record appears whole, in a folder that only its owner can enter.
 */
import { randomUUID } from "node:crypto";
import { readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import {
  type LiveComparisonRecord,
  type LiveRunRecord,
  liveComparisonsFolder,
  liveRunsFolder,
  parseLiveComparisonRecord,
  parseLiveRunRecord,
} from "../../protocol/liveRun.ts";
import { isAlive } from "../files/runLock.ts";
import { requirePrivateFolder } from "./privateFolder.ts";

export interface Registration {
  release(): Promise<void>;
}

const place = () => ({ platform: process.platform, env: process.env, home: os.homedir() });

/** Throws UserError `host/unsafe-folder`. */
export function registerRun(record: LiveRunRecord): Promise<Registration> {
  return enter(liveRunsFolder(place()), record.nonce, record, parseLiveRunRecord);
}

/** So that every window finds it, whoever started it. Throws UserError `host/unsafe-folder`. */
export function registerComparison(record: LiveComparisonRecord): Promise<Registration> {
  return enter(liveComparisonsFolder(place()), randomUUID(), record, parseLiveComparisonRecord);
}

type Parse = (text: string) => LiveRunRecord | LiveComparisonRecord | null;

async function enter(folder: string, name: string, record: LiveRunRecord | LiveComparisonRecord, parse: Parse): Promise<Registration> {
  await requirePrivateFolder(folder);
  await sweep(folder, parse);
  const file = path.join(folder, `${name}.json`);
  const temporary = `${file}.${process.pid}.tmp`;
  await writeFile(temporary, `${JSON.stringify(record)}\n`, { mode: 0o600, flag: "wx" });
  await rename(temporary, file);
  return { release: () => rm(file, { force: true }) };
}

/** Removes records, and sockets, of processes of this machine that have ended without doing it. */
async function sweep(folder: string, parse: Parse): Promise<void> {
  for (const name of await readdir(folder)) {
    if (!name.endsWith(".json")) continue;
    const file = path.join(folder, name);
    const record = parse(await readFile(file, "utf8").catch(() => ""));
    if (!record || record.host !== os.hostname() || (await isAlive(record))) continue;
    await rm(file, { force: true });
    if ("socket" in record && process.platform !== "win32") await rm(record.socket, { force: true });
  }
}
