/** What the operating system says of a file that a person named, as a sentence. */

const reasons: Record<string, string> = {
  ENOENT: "it does not exist",
  EACCES: "permission is denied",
  EPERM: "permission is denied",
  EISDIR: "it is a folder",
  ENOTDIR: "a part of its path is no folder",
  ELOOP: "its symbolic links go in a circle",
  ENAMETOOLONG: "its name is too long",
};

/** The sentence for an error of the file system about a file; null for any other error. */
export function fileErrorSentence(error: unknown): string | null {
  const { code, path: file } = (error ?? {}) as NodeJS.ErrnoException;
  return code && file && code in reasons ? `${file} cannot be used: ${reasons[code]}.` : null;
}
