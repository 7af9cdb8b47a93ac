/** Things to know beside a command's result: on standard error, so that the result can be piped. */

export function printNotes(notes: readonly string[]): void {
  for (const note of notes) process.stderr.write(`note: ${note}\n`);
}
