/** Stands in for the native module native-watchdog in the VS Code server of the end-to-end tests: ends the extension host when the server is gone. */
exports.start = (pid) => {
  const timer = setInterval(() => {
    try {
      process.kill(pid, 0);
    } catch {
      process.exit(87);
    }
  }, 1000);
  timer.unref();
};
exports.exit = (code) => process.exit(code);
