/**
 * Why a program that installs something failed, out of what it said: one line of it. It guesses nothing; where no line tells a reason, the last one stands.
 */
import { UserError } from "../protocol/userError.ts";

/** What a reason looks like, the surest first. */
const likeliest = [
  /integrity checksum failed/i,
  /\b(ENOTFOUND|ECONNREFUSED|ECONNRESET|ETIMEDOUT|EAI_AGAIN|EPROTO|ENOSPC|EACCES|EINTEGRITY|E40\d|E50\d|CERT_[A-Z_]+|[A-Z_]+_CERTIFICATE)\b/,
  /\bstatus (code )?[45]\d\d\b|\b[45]\d\d (Not Found|Forbidden|Unauthorized|Internal Server Error|Bad Gateway|Service Unavailable)/i,
  /(^|\s)[A-Za-z]*Error\b.*:(?! Command failed)/,
];
/** Lines of npm and Node that tell where, not why. */
const noReason = /^(code|path|command|errno|syscall|A complete log|at)\s/;

/** The reason's line. */
export function reasonIn(lines: readonly string[]): string {
  const said = lines.map((line) => line.replace(/^npm (error|ERR!|warn) ?/i, "").trim()).filter((line) => line !== "" && !noReason.test(line));
  for (const pattern of likeliest) {
    const line = said.find((candidate) => pattern.test(candidate));
    if (line) return line.replace(/\.$/, "");
  }
  return (said.at(-1) ?? "it said nothing").replace(/\.$/, "");
}

/** What a person is told of it. */
export function failedProgram(who: string, lines: readonly string[], how = "failed"): UserError {
  return new UserError(
    "tensorflow/install-failed",
    `${who} ${how}: ${reasonIn(lines)}.`,
    "Look whether the hosts it names can be reached, or name mirrors in TFJS_NODE_CDN_STORAGE and a proxy in HTTPS_PROXY, and try again. What was installed before is unchanged.",
    { badInput: false },
  );
}
