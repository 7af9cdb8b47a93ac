/**
 * Puts a hook in front of every call of `node:fs/promises` through which the product changes the disk, for tests of crashes and full disks.
 * Import it before the modules under test. It patches the whole process: a test file that uses it tests nothing else.
 */
import fs, { type FileHandle } from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";

const watched = ["open", "rename", "rm", "mkdir", "readdir", "statfs", "link", "copyFile", "chmod", "rmdir"] as const;

const openHandles = new Set<FileHandle>();

/** Calls `before(name)` ahead of each such call and waits for what it returns; what it throws, the call throws. Installed once. */
export async function watchFileSystem(before: (call: string) => unknown): Promise<void> {
  const watch = (target: object, names: readonly string[]) => {
    const methods = target as Record<string, (...args: unknown[]) => unknown>;
    for (const name of names) {
      const original = methods[name];
      methods[name] = async function (this: unknown, ...args: unknown[]) {
        const pending = before(name);
        if (pending instanceof Promise) await pending;
        const result = await original.apply(this, args);
        if (name === "open") openHandles.add(result as FileHandle);
        return result;
      };
    }
  };
  const handle = await fs.open(import.meta.filename, "r");
  watch(Object.getPrototypeOf(handle), ["write", "sync"]);
  await handle.close();
  watch(fs, watched);
  syncBuiltinESMExports();
}

/** Freezes the file system at chosen calls: to the disk that is a kill at that moment. */
export class Freezer {
  calls = 0;
  #at = Number.POSITIVE_INFINITY;
  #frozen: () => void = () => undefined;

  /** The hook to install. A frozen call never returns, and neither does any after it. */
  before = (): unknown => {
    this.calls++;
    if (this.calls < this.#at) return;
    this.#frozen();
    return new Promise(() => undefined);
  };

  /** Runs `work` until its n-th call; true when it got to its end before. Afterwards calls work again. */
  async runUntil(n: number, work: () => Promise<unknown>): Promise<boolean> {
    this.calls = 0;
    this.#at = n;
    const frozen = new Promise<false>((resolve) => {
      this.#frozen = () => resolve(false);
    });
    const ended = await Promise.race([frozen, work().then(() => true as const)]);
    this.#at = Number.POSITIVE_INFINITY;
    // A killed process would have left them to the system.
    for (const handle of openHandles) await handle.close(); // does nothing to a closed one
    openHandles.clear();
    return ended;
  }
}
