/**
 * Fetches one file over http or https, through a proxy where one is set, piece by piece. It knows nothing of what it fetches. Plain Node.
 * The rule to keep: it always ends — with the whole file, or an error whose sentence names the address without credentials; who gives up gets an AbortError.
 */
import http, { type IncomingMessage } from "node:http";
import https from "node:https";
import { UserError } from "../protocol/userError.ts";
import { type ProxySettings, proxyFor, tunnelAgent } from "./proxy.ts";

export interface DownloadOptions {
  proxy: ProxySettings;
  signal: AbortSignal;
  maxBytes: number;
  /** A server that sends nothing for so long is given up. */
  idleMs?: number;
}

const maxRedirects = 5;
const wrongRegistry = "Correct the registry's address: the setting sparseTuner.registry, or --registry.";

/** The pieces of a file, and how many bytes it will have where the server says so. Throws UserError. */
export async function download(from: URL, options: DownloadOptions): Promise<{ totalBytes: number | null; pieces: AsyncGenerator<Buffer> }> {
  let url = from;
  for (let redirects = 0; ; redirects++) {
    const response = await answer(url, options);
    const { statusCode = 0, headers } = response;
    if (statusCode === 200) {
      const stated = Number(headers["content-length"] ?? Number.NaN);
      if (stated > options.maxBytes) {
        response.destroy();
        throw tooLarge(url, options.maxBytes);
      }
      return { totalBytes: Number.isFinite(stated) ? stated : null, pieces: piecesOf(response, url, options) };
    }
    response.destroy();
    const next = [301, 302, 303, 307, 308].includes(statusCode) ? target(headers.location, url) : null;
    if (!next) throw refused(url, `it answered ${statusCode}`);
    if (redirects === maxRedirects) throw refused(url, "it leads from address to address");
    if (!mayFollow(url, next)) throw refused(url, `it leads to ${shown(next)}`);
    url = next;
  }
}

function target(location: string | undefined, from: URL): URL | null {
  return location !== undefined && URL.canParse(location, from.href) ? new URL(location, from) : null;
}

/** Never from a protected connection to an open one, nor out of the web. */
function mayFollow(from: URL, to: URL): boolean {
  return to.protocol === "https:" || (to.protocol === "http:" && from.protocol === "http:");
}

function answer(url: URL, { proxy: settings, signal, idleMs = 60_000 }: DownloadOptions): Promise<IncomingMessage> {
  const proxy = proxyFor(url, settings);
  return new Promise<IncomingMessage>((resolve, reject) => {
    const fail = (error: unknown) => reject(signal.aborted ? signal.reason : unreachable(url, proxy, error));
    const request = (url.protocol === "https:" ? https : http).get(url, {
      signal,
      agent: proxy ? tunnelAgent(url, proxy, settings, signal) : false,
      rejectUnauthorized: settings.strictSSL ?? true,
      headers: { accept: "*/*", "accept-encoding": "identity", "user-agent": "sparse-tuner" },
    } as https.RequestOptions);
    let answered: IncomingMessage | null = null;
    // Who reads the answer is told through it.
    request.setTimeout(idleMs, () => (answered ?? request).destroy(new Error(`nothing came for ${idleMs / 1000} s`)));
    request.once("response", (response) => {
      answered = response;
      resolve(response);
    });
    request.on("error", fail);
  });
}

async function* piecesOf(response: IncomingMessage, url: URL, { signal, maxBytes }: DownloadOptions): AsyncGenerator<Buffer> {
  let received = 0;
  try {
    for await (const piece of response as AsyncIterable<Buffer>) {
      received += piece.length;
      if (received > maxBytes) throw tooLarge(url, maxBytes);
      yield piece;
    }
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof UserError) throw error;
    throw new UserError(
      "download/cut",
      `The connection to ${shown(url)} was cut after ${received} bytes: ${reasonOf(error)}.`,
      "Try again; nothing was changed.",
      { badInput: false, cause: error },
    );
  } finally {
    response.destroy();
  }
  signal.throwIfAborted();
}

/** An address as it may stand in a message and a log. */
export function shown(url: URL): string {
  return `${url.protocol}//${url.host}${url.pathname}`;
}

/** Several addresses of one name are tried, and their errors come together. */
function reasonOf(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(reasonOf).join("; ");
  return error instanceof Error ? error.message || String((error as NodeJS.ErrnoException).code) : String(error);
}

function unreachable(url: URL, proxy: URL | null, error: unknown): UserError {
  if (error instanceof UserError) return error;
  const through = proxy ? ` through the proxy ${proxy.protocol}//${proxy.host}` : "";
  return new UserError(
    "download/unreachable",
    `${shown(url)} cannot be reached${through}: ${reasonOf(error)}.`,
    "Connect to a network, or correct the registry's address and the proxy (the settings sparseTuner.registry and http.proxy, or --registry and HTTPS_PROXY).",
    { badInput: false, cause: error },
  );
}

function refused(url: URL, how: string): UserError {
  return new UserError("download/refused", `${shown(url)} does not give the file: ${how}.`, wrongRegistry, {
    badInput: false,
  });
}

function tooLarge(url: URL, maxBytes: number): UserError {
  return new UserError("download/too-large", `${shown(url)} sends more than ${maxBytes} bytes.`, wrongRegistry, {
    badInput: false,
  });
}
