/**
 * The core's socket: where it lies, and that it stays there. Temporary folders are swept by others; a socket whose name has vanished is opened anew,
 * and connections that stand are not touched. The rule to keep: the path is checked before it is used, because Node cuts a long one silently.
 */
import { createHash } from "node:crypto";
import { lstat } from "node:fs/promises";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { UserError } from "../../protocol/userError.ts";
import { requirePrivateFolder } from "./privateFolder.ts";

/** sun_path holds 104 bytes on macOS, 108 on Linux. */
const maxPathBytes = 100;

/** Where a core with this nonce listens. Throws UserError `host/long-socket-path`. */
export function socketPath(nonce: string, place: { platform: string; temporary: string; user: number } = thisPlace()): string {
  const name = createHash("sha256").update(nonce).digest("hex").slice(0, 16);
  if (place.platform === "win32") return `\\\\.\\pipe\\sparse-tuner-${name}`;
  const file = path.join(place.temporary, `sparse-tuner-${place.user}`, `${name}.sock`);
  if (Buffer.byteLength(file) <= maxPathBytes) return file;
  throw new UserError("host/long-socket-path", `${file} is too long for a socket.`, "Set TMPDIR to a folder with a shorter name, such as /tmp.");
}

function thisPlace() {
  return { platform: process.platform, temporary: os.tmpdir(), user: process.getuid?.() ?? 0 };
}

export class Listener {
  readonly path: string;
  readonly #onConnection: (socket: net.Socket) => void;
  #server: net.Server | null = null;
  #reopening = false;
  #closed = false;

  private constructor(file: string, onConnection: (socket: net.Socket) => void) {
    this.path = file;
    this.#onConnection = onConnection;
  }

  /** Listens. Throws UserError when the folder is not this user's alone. */
  static async open(nonce: string, onConnection: (socket: net.Socket) => void): Promise<Listener> {
    const listener = new Listener(socketPath(nonce), onConnection);
    await listener.#listen();
    return listener;
  }

  async #listen(): Promise<void> {
    if (process.platform !== "win32") await requirePrivateFolder(path.dirname(this.path));
    const server = net.createServer(this.#onConnection);
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(this.path, resolve);
    });
    // A connection that could not be accepted is the caller's loss alone.
    server.on("error", () => {});
    this.#server = server;
  }

  /** Opens the socket anew where its name is gone. A folder that became unsafe is left alone. */
  async reopenIfGone(): Promise<void> {
    if (process.platform === "win32" || this.#reopening || this.#closed) return;
    if (
      await lstat(this.path)
        .then((status) => status.isSocket())
        .catch(() => false)
    )
      return;
    this.#reopening = true;
    try {
      this.#server?.close(); // This unlinks the name: it must be over before the new one appears.
      await this.#listen();
      if (this.#closed) this.#server?.close(); // It was opened while it was being left.
    } catch {
      // It is tried again at the next look.
    } finally {
      this.#reopening = false;
    }
  }

  /** Takes no more connections. */
  close(): void {
    this.#closed = true;
    this.#server?.close();
  }
}
