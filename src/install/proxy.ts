/**
 * Which proxy leads to an address, and a connection through it. It follows VS Code's settings, then the environment, as curl and npm read it. Plain Node: the
 * editor puts its own proxy beneath the extensions of its windows, and that of a server needs this one.
 * The rule to keep: what goes through a proxy is a tunnel; credentials are sent to the proxy they were given for and stand in no message.
 */
import http from "node:http";
import https from "node:https";
import net from "node:net";
import type { Duplex } from "node:stream";
import tls from "node:tls";
import { UserError } from "../protocol/userError.ts";

/** What the editor is set to, beside the environment. */
export interface ProxySettings {
  /** `http.proxy`; empty: the environment says. */
  proxy?: string;
  /** `http.proxySupport` is `off`: no proxy at all. */
  off?: boolean;
  /** `http.noProxy`. */
  noProxy?: readonly string[];
  /** `http.proxyAuthorization`: the header's value. */
  authorization?: string | null;
  /** `http.proxyStrictSSL`. What is fetched is checked by its hash whatever this says. */
  strictSSL?: boolean;
  env?: NodeJS.ProcessEnv;
}

const maxAnswerBytes = 1 << 14;
const tunnelMs = 30_000;

/** The proxy for an address; null when it is reached directly. Throws UserError for one that is not understood. */
export function proxyFor(url: URL, { proxy = "", off = false, noProxy = [], env = process.env }: ProxySettings): URL | null {
  const variable = (name: string) => env[name.toLowerCase()] || env[name] || "";
  const exceptions = noProxy.length > 0 ? noProxy : variable("NO_PROXY").split(",");
  if (off || isLoopback(url.hostname) || exceptions.some((exception) => isExcepted(url, exception.trim()))) return null;
  const given = proxy || (url.protocol === "https:" ? variable("HTTPS_PROXY") : variable("HTTP_PROXY")) || variable("ALL_PROXY");
  if (!given) return null;
  const address = given.includes("://") ? given : `http://${given}`;
  const parsed = URL.canParse(address) ? new URL(address) : null;
  if (parsed && ["http:", "https:"].includes(parsed.protocol)) return parsed;
  throw new UserError(
    "download/bad-proxy",
    `The proxy ${parsed ? `${parsed.protocol}//${parsed.host}` : "that is set"} is no http or https address.`,
    "Correct the setting http.proxy or the variable HTTPS_PROXY.",
  );
}

/** The settings as the environment's variables, for programs that read those; what is not set there stays as it is. */
export function proxyVariables({ proxy = "", off = false, noProxy = [] }: ProxySettings): Record<string, string> {
  const set = (names: readonly string[], value: string) => names.flatMap((name) => [name, name.toLowerCase()].map((key) => [key, value]));
  const proxies = ["HTTPS_PROXY", "HTTP_PROXY"];
  if (off) return Object.fromEntries(set([...proxies, "ALL_PROXY"], ""));
  if (!proxy) return {};
  const address = proxy.includes("://") ? proxy : `http://${proxy}`;
  return Object.fromEntries([...set(proxies, address), ...(noProxy.length > 0 ? set(["NO_PROXY"], noProxy.join(",")) : [])]);
}

function isLoopback(hostname: string): boolean {
  return hostname === "localhost" || hostname.endsWith(".localhost") || hostname === "[::1]" || /^127\./.test(hostname);
}

/** `*`, `host`, `.domain`, `*.domain`, each also with a port; a domain counts for what lies below it. */
function isExcepted(url: URL, exception: string): boolean {
  if (exception === "*") return true;
  const [, name, port] = /^(.*?)(?::(\d+))?$/.exec(exception.toLowerCase()) ?? [];
  const domain = name?.replace(/^\*?\./, "");
  if (!domain || (port && port !== portOf(url))) return false;
  return url.hostname === domain || url.hostname.endsWith(`.${domain}`);
}

function portOf(url: URL): string {
  return url.port || (url.protocol === "https:" ? "443" : "80");
}

/** An agent whose connections go through the proxy. */
export function tunnelAgent(url: URL, proxy: URL, settings: ProxySettings, signal: AbortSignal): http.Agent {
  const agent = url.protocol === "https:" ? new https.Agent() : new http.Agent();
  agent.createConnection = (_options, callback) => {
    tunnel(url, proxy, settings, signal).then(
      (socket) => callback?.(null, socket),
      (error: Error) => callback?.(error, undefined as unknown as Duplex),
    );
    return undefined;
  };
  return agent;
}

/** CONNECT, also for plain http: one way for both. */
async function tunnel(url: URL, proxy: URL, settings: ProxySettings, signal: AbortSignal): Promise<net.Socket> {
  const rejectUnauthorized = settings.strictSSL ?? true;
  const host = bare(proxy.hostname);
  const port = Number(portOf(proxy));
  const secure = proxy.protocol === "https:";
  const socket = secure ? tls.connect({ host, port, servername: serverName(host), rejectUnauthorized }) : net.connect({ host, port });
  const limit = AbortSignal.any([signal, AbortSignal.timeout(tunnelMs)]);
  const giveUp = () => socket.destroy(signal.aborted ? signal.reason : new Error(`the proxy has not answered for ${tunnelMs / 1000} s`));
  if (limit.aborted) giveUp();
  limit.addEventListener("abort", giveUp, { once: true });
  try {
    await event(socket, secure ? "secureConnect" : "connect");
    socket.write(connectRequest(`${url.hostname}:${portOf(url)}`, proxy, settings));
    const status = await answerOf(socket);
    if (status !== 200) throw new Error(status === 407 ? "the proxy asks for credentials" : `the proxy answered ${status}`);
    if (url.protocol !== "https:") return socket;
    const name = bare(url.hostname);
    const inner = tls.connect({ socket, servername: serverName(name), host: name, rejectUnauthorized });
    await event(inner, "secureConnect");
    return inner;
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    limit.removeEventListener("abort", giveUp);
  }
}

function bare(hostname: string): string {
  return hostname.replace(/^\[|\]$/g, "");
}

/** The name a certificate is asked for; an address of numbers is none. */
function serverName(host: string): string | undefined {
  return net.isIP(host) ? undefined : host;
}

function connectRequest(target: string, { username, password }: URL, { authorization }: ProxySettings): string {
  const own = username ? `Basic ${Buffer.from(`${decodeURIComponent(username)}:${decodeURIComponent(password)}`).toString("base64")}` : null;
  // A line's end in a setting would begin a header of its own.
  const credentials = (own ?? authorization ?? "").replace(/[\r\n]/g, "");
  const lines = [`CONNECT ${target} HTTP/1.1`, `Host: ${target}`, ...(credentials ? [`Proxy-Authorization: ${credentials}`] : [])];
  return `${lines.join("\r\n")}\r\n\r\n`;
}

/** The status of the proxy's answer, read to the end of its headers and not beyond. */
async function answerOf(socket: net.Socket): Promise<number> {
  let answer: Buffer = Buffer.alloc(0);
  for (;;) {
    await event(socket, "readable");
    for (let piece = socket.read(); piece !== null; piece = socket.read()) answer = Buffer.concat([answer, piece]);
    const end = answer.indexOf("\r\n\r\n");
    if (end < 0 && answer.length < maxAnswerBytes) continue;
    const status = /^HTTP\/1\.\d (\d{3})/.exec(answer.toString("latin1"))?.[1];
    if (end < 0 || !status) throw new Error("the proxy does not answer as one");
    socket.unshift(answer.subarray(end + 4));
    return Number(status);
  }
}

/** The next event of a connection; rejects when it fails or ends before. */
function event(socket: net.Socket, name: "connect" | "secureConnect" | "readable"): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (error?: Error) => {
      socket.off(name, onEvent).off("error", settle).off("close", onClose).off("end", onClose);
      if (error) reject(error);
      else resolve();
    };
    const onEvent = () => settle();
    const onClose = () => settle(new Error("the connection was closed"));
    socket.once(name, onEvent).once("error", settle).once("close", onClose).once("end", onClose);
  });
}
